"""Stories, and the loss no model can beat: proved by reading and counting the texts."""

import hashlib
import math
import random
import re
import statistics
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import combinations, permutations
from threading import Thread

import pytest

from gpt2_lesson.corpora import SHAKESPEARE_SHA256, load_text, split
from gpt2_lesson.corpora import stories as tales
from gpt2_lesson.corpora.download import fetch
from gpt2_lesson.corpora.stories import (
    GRAMMAR,
    Given,
    draw_story,
    entropy_rate,
    log_probability,
    nll,
)
from gpt2_lesson.files import cache_folder, file_sha256

COUNT = 20_000


@pytest.fixture(scope="module")
def drawn():
    rng = random.Random(7)
    return [draw_story(rng) for _ in range(COUNT)]


# ---- a reader that knows the shapes of the sentences, and nothing of the grammar ----

FOUND = r"(?P<hero>\w+) found (?P<colour>an? \w+) (?P<thing>\w+)"
WHEN = r"(?P<sky>\w+) (?P<time>\w+)"
SHAPES = {
    "opening": [
        rf"One {WHEN} {FOUND} by the (?P<place>\w+)\. ",
        rf"By the (?P<place>\w+), one {WHEN}, {FOUND}\. ",
        rf"A {WHEN}! By the (?P<place>\w+) {FOUND}\. ",
    ],
    "meeting": [
        rf"{call} (?P<friend>\w+) the (?P<animal>\w+) (?P<trouble>[\w ]+)\. "
        for call in ("Nearby,", "Oh!", "Look!")
    ],
    "rescue": [
        rf"{how[0]} the <thing> (?P<act>[\w -]+), {how[1]} <friend> "
        r"(?P<relief>[\w ]+)\. "
        for how in (("But", "and"), ("Soon", "and"), ("Then", "so"))
    ],
    "feast": [
        r"By the <place> they ate (?P<food>[\w ]+)\. ",
        r"They ate (?P<food>[\w ]+) by the <place>\. ",
        r"Both had (?P<food>[\w ]+) by the <place>\. ",
    ],
    "gift": [r'"(?P<words>[\w ]+)," said (?P<giver>\w+)\. '],
    "ending": [
        r"So (?P<owner>\w+) took the <hue> <thing> home (?P<path>[\w ]+)\.\n",
        r"Home went (?P<owner>\w+) and the <hue> <thing> (?P<path>[\w ]+)\.\n",
        r"Off went (?P<owner>\w+) with the <hue> <thing> (?P<path>[\w ]+)\.\n",
    ],
}
PARENT = {
    "thing": "sky",
    "trouble": "sky",
    "act": "thing",
    "relief": "sky",
    "path": "sky",
}


def recall(shape, seen):
    """Return `shape` with what was seen before in the place of each <name>."""
    return re.sub(r"(?<!P)<(\w+)>", lambda match: seen[match[1]], shape)


def read(text):
    """Return what a story says, having checked that what comes back is the same."""
    seen, at = {}, 0
    for sentence, shapes in SHAPES.items():
        matches = [re.compile(recall(shape, seen)).match(text, at) for shape in shapes]
        [(shape, match)] = [(i, m) for i, m in enumerate(matches) if m]
        seen |= match.groupdict() | {sentence: shape}
        if sentence == "opening":
            seen["hue"] = seen["colour"].split()[1]
        at = match.end()
    assert at == len(text)
    assert {seen["giver"], seen["owner"]} == {seen["hero"], seen["friend"]}
    assert seen["giver"] != seen["owner"]
    seen["giver"] = "hero" if seen["giver"] == seen["hero"] else "friend"
    del seen["owner"], seen["hue"]  # they follow from the others
    return seen


def entropy(values):
    """Return the entropy of counted values in nats, corrected for counting few."""
    counts = Counter(values)
    total = sum(counts.values())
    plain = -sum(n / total * math.log(n / total) for n in counts.values())
    return plain + (len(counts) - 1) / (2 * total)


def test_entropy_rate_equals_the_entropy_counted_in_the_texts(drawn):
    read_stories = [read(story.text) for story in drawn]
    column = {key: [seen[key] for seen in read_stories] for key in read_stories[0]}
    counted = 0.0
    for key, values in column.items():
        parent = column[PARENT[key]] if key in PARENT else [None] * COUNT
        counted += entropy(zip(parent, values, strict=True)) - entropy(parent)
    mean_bytes = sum(len(story.text) for story in drawn) / COUNT
    assert counted / mean_bytes == pytest.approx(entropy_rate(), rel=1e-3)

    # The sum above leaves nothing out: given the sky, no two facts know of each other.
    column = {key: values[:8000] for key, values in column.items()}
    sky = column.pop("sky")
    alone = {key: entropy(zip(sky, column[key], strict=True)) for key in column}
    for a, b in set(combinations(sorted(column), 2)) - {("act", "thing")}:
        both = entropy(zip(sky, column[a], column[b], strict=True))
        assert abs(alone[a] + alone[b] - entropy(sky) - both) < 0.01, (a, b)


def test_entropy_rate_equals_the_mean_of_the_log_probabilities(drawn):
    excess = [
        -story.log_probability - entropy_rate() * len(story.text) for story in drawn
    ]
    standard_error = statistics.stdev(excess) / math.sqrt(COUNT)
    assert abs(statistics.fmean(excess)) < 4 * standard_error


def test_nll_equals_the_counted_share_of_each_next_byte(drawn):
    after = defaultdict(Counter)
    example = {}
    for story in drawn:
        for end in range(40):
            prefix = story.text[:end]
            after[prefix][story.text[end]] += 1
            example[prefix, story.text[end]] = story.text
    often = {prefix: seen for prefix, seen in after.items() if seen.total() > 1000}
    assert len(often) > 30
    for prefix, seen in often.items():
        for byte, count in seen.items():
            p = math.exp(-nll(example[prefix, byte])[len(prefix)])
            spread = math.sqrt(p * (1 - p) / seen.total())
            assert abs(count / seen.total() - p) <= 5 * spread + 1e-12, (prefix, byte)


def test_reading_a_story_gives_back_its_probability(drawn):
    for story in drawn[:1000]:
        nats = nll(story.text)
        assert len(nats) == len(story.text) == len(story.text.encode("ascii"))
        assert min(nats) >= 0
        assert math.fsum(nats) == pytest.approx(-story.log_probability, abs=1e-9)
        assert log_probability(story.text) == pytest.approx(story.log_probability)
    assert len({story.text for story in drawn}) == COUNT


def test_no_option_begins_with_another_and_none_is_rare():
    rng, met = random.Random(1), set()

    def choose(options):
        met.add(tuple(options))
        return rng.choice(options)[0]

    for _ in range(3000):
        tales._tell("{story}", lambda words: None, choose, {}, {})
    slots = {option for options in met for option, _, _ in options}
    for rule in GRAMMAR.values():
        tables = rule.table.values() if isinstance(rule, Given) else [rule]
        assert all(slots >= set(options) for options in tables)
    for options in met:
        assert sum(p for _, _, p in options) == pytest.approx(1)
        assert all(p >= 0.02 for _, _, p in options)
        for (_, one, _), (_, other, _) in permutations(options, 2):
            assert not other.startswith(one)


def lengths(template, chosen, pick):
    """Return the least or most bytes (`pick`), once the deciding choices are made."""

    def size(slot):
        if slot in chosen:
            return lengths(chosen[slot], chosen, pick)
        rule = GRAMMAR[slot]
        options = rule.table[chosen[rule.slot]] if isinstance(rule, Given) else rule
        return pick(lengths(option, chosen, pick) for option in options)

    slots = re.findall(r"\{(\w+)\}", template)
    return len(re.sub(r"\{\w+\}", "", template)) + sum(map(size, slots))


def test_no_story_can_be_shorter_than_150_or_longer_than_255_bytes(drawn):
    for sky, things in GRAMMAR["thing"].table.items():
        for thing in things:
            for article in GRAMMAR["article"]:
                for giver in GRAMMAR["giver"]:
                    chosen = {
                        "sky": sky,
                        "thing": thing,
                        "article": article,
                        "giver": giver,
                    }
                    assert lengths("{story}", chosen, min) >= 150
                    assert lengths("{story}", chosen, max) <= 255
    assert all(re.fullmatch(r"[ -~]+\n", story.text) for story in drawn)


def test_articles_agree(drawn):
    for story in drawn:
        for article, letter in re.findall(r"\b([Aa]n?) (\w)", story.text):
            assert (article.lower() == "an") == (letter in "aeiou"), story.text


def test_stories_are_the_same_everywhere():
    text = tales.stories(1000, seed=0)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == (
        "6c9f25eb3f7efd79daf9f0448588b4d67c34fb5a9a4158744eda0fa7d34c0010"
    )
    assert tales.stories(3, seed=0) == "".join(text.splitlines(keepends=True)[:3])
    assert tales.stories(3, seed=1) != tales.stories(3, seed=0)
    assert tales.stories(0) == ""
    with pytest.raises(ValueError, match="count is -1"):
        tales.stories(-1)


def test_a_wrong_story_is_refused_at_the_first_byte_that_does_not_fit():
    text = draw_story(random.Random(3)).text
    for at in range(len(text)):
        for wrong in (text[:at] + "#" + text[at + 1 :], text[:at], text[:at] + "é"):
            with pytest.raises(ValueError, match=rf"^byte {at} is .*; expected "):
                log_probability(wrong)
    with pytest.raises(ValueError, match=rf"byte {len(text)} .*end of the story"):
        log_probability(text + "x")
    with pytest.raises(ValueError, match="byte 0 is 'T'; expected 'A ' or 'By"):
        nll("The cat sat on it.\n")


# ---- texts by name and by path ----


def test_texts_by_name():
    stories = load_text("stories")
    assert stories.count(b"\n") == 20_000
    assert stories.startswith(tales.stories(5).encode())
    for part in split(stories):
        lines = part.decode().splitlines(keepends=True)
        log_probability(lines[0])
        log_probability(lines[-1])
    python = load_text("python")
    assert python == load_text("python")
    assert 300_000 < len(python) < 1_000_000 and b"yield" in python


def test_split_cuts_after_a_newline():
    assert split(b"one\ntwo\nthree\n", 0.7) == (b"one\ntwo\n", b"three\n")
    for text, fraction in (
        (b"", 0.9),
        (b"no newline", 0.9),
        (b"a\nb\n", 1.0),
        (b"a\nb\n", 0.0),
        (b"a\nb\n", -0.5),
        (b"a\nb\n", 1.5),
    ):
        with pytest.raises(ValueError, match="cannot cut|fraction is"):
            split(text, fraction)


def test_tinyshakespeare_from_the_cache():
    if not (cache_folder() / "tinyshakespeare.txt").exists():
        pytest.skip("needs tinyshakespeare.txt in the folder $GPT2_LESSON_CACHE")
    assert len(load_text("tinyshakespeare")) == 1_115_394


def test_a_file_of_your_own(tmp_path):
    path = tmp_path / "poem.txt"
    path.write_bytes("Grüße, ☃\r\n".encode())
    assert load_text(path) == load_text(str(path)) == path.read_bytes()


def test_bad_texts_are_refused_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    (tmp_path / "cut.txt").write_bytes("snow ☃".encode()[:-1])
    cases = {
        "storys": (ValueError, "unknown text 'storys'.*Did you mean stories"),
        "xyz": (ValueError, "expected stories, python, tinyshakespeare, or the path"),
        "": (ValueError, "expected stories, python"),
        "missing.txt": (FileNotFoundError, "no file missing.txt"),
        "no/such": (FileNotFoundError, "no file no/such"),
        str(tmp_path): (ValueError, "is a folder"),
        "/dev/null": (ValueError, "no regular file"),
        "empty.txt": (ValueError, "empty.txt is empty"),
        "latin.txt": (ValueError, "latin.txt is not UTF-8: byte 0xe9 at offset 3"),
        "cut.txt": (ValueError, "byte 0xe2 at offset 5 .*save it.* UTF-8"),
    }
    for name, (error, message) in cases.items():
        with pytest.raises(error, match=message):
            load_text(name)


# ---- downloads, from a server with bad habits ----

BODY = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server(BaseHTTPRequestHandler):
    """Serve BODY: /good, /cut (half of what is asked), /whole (no Range), /wrong."""

    asked: list[str | None] = []

    def do_GET(self):
        wanted = self.headers["Range"]
        self.asked.append(wanted)
        start = int(wanted[6:-1]) if wanted and self.path != "/whole" else 0
        body = BODY[start:] if self.path != "/wrong" else BODY[::-1]
        if self.path == "/missing" or not body:
            return self.send_error(416 if not body else 404)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/cut" else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    Server.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as http:
        Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_a_download_is_kept_and_not_repeated(server, tmp_path):
    path = tmp_path / "new" / "folder" / "text.bin"
    assert fetch(f"{server}/good", SHA256, path) == path
    assert path.read_bytes() == BODY
    assert [file.name for file in path.parent.iterdir()] == ["text.bin"]
    path.parent.chmod(0o555)  # a cache may be read-only
    fetch(f"{server}/good", SHA256, path)
    path.parent.chmod(0o755)
    assert Server.asked == [None]


def test_a_download_that_breaks_off_goes_on_where_it_stopped(server, tmp_path):
    path = tmp_path / "text.bin"
    for kept in (150_000, 225_000):
        with pytest.raises(OSError, match=f"after {kept} of 300000 .*{SHA256}"):
            fetch(f"{server}/cut", SHA256, path)
        assert not path.exists()
        assert (tmp_path / "text.bin.part").read_bytes() == BODY[:kept]
    fetch(f"{server}/good", SHA256, path)
    assert path.read_bytes() == BODY
    assert Server.asked == [None, "bytes=150000-", "bytes=225000-"]


@pytest.mark.parametrize("page", ["good", "whole"])
@pytest.mark.parametrize("have", [0, 1, 299_999, 300_000])
def test_whatever_part_is_there_the_file_is_right(server, tmp_path, page, have):
    (tmp_path / "text.bin.part").write_bytes(BODY[:have])
    assert fetch(f"{server}/{page}", SHA256, tmp_path / "text.bin").read_bytes() == BODY


def test_wrong_bytes_are_never_kept(server, tmp_path):
    path = tmp_path / "text.bin"
    with pytest.raises(ValueError, match=f"expected {SHA256}; it was deleted"):
        fetch(f"{server}/wrong", SHA256, path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "text.bin.part").write_bytes(b"another file")
    with pytest.raises(ValueError, match="it was deleted"):
        fetch(f"{server}/good", SHA256, path)
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"my own file")
    with pytest.raises(ValueError, match="left as it is"):
        fetch(f"{server}/good", SHA256, path)
    assert path.read_bytes() == b"my own file"


def test_without_a_network_the_error_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    path = tmp_path / "text.bin"
    with pytest.raises(OSError, match=f"{SHA256} at {path}; .*GPT2_LESSON_CACHE"):
        fetch("http://127.0.0.1:9/text", SHA256, path)


def test_a_page_that_is_not_there(server, tmp_path):
    with pytest.raises(OSError, match="404"):
        fetch(f"{server}/missing", SHA256, tmp_path / "text.bin")


def test_a_wrong_file_in_the_cache_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT2_LESSON_CACHE", str(tmp_path))
    path = tmp_path / "tinyshakespeare.txt"
    path.write_text("Mia found a red drum.\n")
    with pytest.raises(
        ValueError,
        match=f"{file_sha256(path)}, expected {SHAKESPEARE_SHA256}; it was left",
    ):
        load_text("tinyshakespeare")
