"""Equal ids in three programs, a slow and obvious reference, and every damaged file."""

import json
import os
import random
import shutil
import subprocess
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from time import process_time

import huggingface_hub
import numpy as np
import pytest
import regex
import tiktoken
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from gpt2_lesson.corpora import load_text
from gpt2_lesson.files import cache_folder
from gpt2_lesson.tokenizer import (
    GPT2_SPLIT_PATTERN,
    Tokenizer,
    merge_pair,
    merge_pre_token,
    merged_bytes,
    train_bpe,
)
from gpt2_lesson.vocabulary_files import (
    GPT2_REPOSITORIES,
    Vocabulary,
    bytes_to_unicode,
    find_folder,
    read_vocabulary,
)

END = "<|endoftext|>"
FILES = ("vocab.json", "merges.txt", "tokenizer.json")
OPENAI = regex.compile(  # as in encoder.py of openai/gpt-2
    r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
)
LANGUAGES = """The cat's mat; they'll, we've, I'm, you'd, don't: 1234 and 2026!
Größe, žluťoučký kůň. Кошка сидела на коврике. Η γάτα κάθισε στο χαλί.
बिल्ली चटाई पर बैठी थी। جلست القطة على السجادة. חתול על השטיח. แมวนั่ง 고양이
猫坐在垫子上。\u3000黒猫 🙂🙂 👩\u200d👩\u200d👧 🇫🇮🇫🇮 ١٢٣ १२३ １２３ e\u0301e\u0301
\t\t\r\n\r\n    x\n\n\n\n   y"""


# Three programs that read the same two files


@pytest.fixture(scope="module")
def gpt2_folder() -> Path:
    folder = Path(os.environ.get("GPT2_LESSON_TEST_DATA", "nowhere"), "gpt2")
    if not (folder / "vocab.json").is_file():
        pytest.skip(
            "needs GPT-2's vocabulary: set GPT2_LESSON_TEST_DATA to a folder "
            "that holds gpt2/vocab.json and gpt2/merges.txt"
        )
    return folder


@pytest.fixture(scope="module")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a vocabulary of many scripts, learned and saved by us."""
    folder = tmp_path_factory.mktemp("trained")
    text = load_text("python").decode()[:20_000] + 30 * LANGUAGES
    Tokenizer.train(text, 800).save(folder)
    return folder


@pytest.fixture(scope="module", params=["gpt2", "trained"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(f"{request.param}_folder")


def openai_letters() -> dict[str, int]:
    """Return the byte of each letter: what cannot be seen is counted from 256 up."""
    hidden = [b for b in range(256) if b == 32 or not chr(b).isprintable()]
    return {chr(256 + hidden.index(b) if b in hidden else b): b for b in range(256)}


def their_tiktoken(folder: Path) -> tiktoken.Encoding:
    ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    special, byte_of = {END: ids.pop(END)}, openai_letters()
    ranks = {bytes(byte_of[c] for c in name): i for name, i in ids.items()}
    return tiktoken.Encoding(
        "ours", pat_str=OPENAI.pattern, mergeable_ranks=ranks, special_tokens=special
    )


def their_tokenizers(folder: Path) -> tokenizers.Tokenizer:
    files = [str(folder / name) for name in FILES[:2]]
    theirs = tokenizers.Tokenizer(BPE.from_file(*files))
    theirs.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return theirs


Three = tuple[Tokenizer, tiktoken.Encoding, tokenizers.Tokenizer]


@pytest.fixture(scope="module")
def three(folder: Path) -> Three:
    return Tokenizer.load(folder), their_tiktoken(folder), their_tokenizers(folder)


def assigned() -> dict[str, list[str]]:
    """Return the characters of each category, without surrogates and unassigned."""
    kinds = defaultdict(list)
    for character in map(chr, range(sys.maxunicode + 1)):
        kinds[unicodedata.category(character)].append(character)
    return {kind: list_ for kind, list_ in kinds.items() if kind not in ("Cs", "Cn")}


KINDS = assigned()
SPACES = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u180e\u2000\u2002\u2007\u2009\u200a"
    "\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
SNIPPETS = [
    "'s",
    "'t",
    "'re",
    "'ve",
    "'m",
    "'ll",
    "'d",
    "'S",
    "'LL",
    "'Ve",
    "’s",
    "’ll",
    "''",
    "'",
    "'l",
    "'ſ",
    "a's",
    " 's",
    "'s's",
    "\0",
    "\0\0",
    "\x7f",
    "\ufffd",
    "\uffff",
    "\U0010ffff",
    "👩\u200d👩\u200d👧\u200d👦",
    "🏳\ufe0f\u200d🌈",
    "👍🏽",
    "🇫🇮🇩🇪",
    "1\ufe0f\u20e3",
    "e\u0301\u0323",
    "n\u0303n",
    "\u0301",
    "\u1112\u1161\u11ab",
    "각",
    "ﬁ",
    "ǅ",
    "ß",
    "ſ",
    "İ",
    "שלום",
    "ש\u05c1ל",
    "السلام",
    "\u202eabc\u202c",
    "\u2067א1\u2069",
    "हिन्दी",
    "ไทย",
    "猫",
    "𠀋",
    "𝔘𝔫𝔦",
    "½",
    "²",
    "Ⅷ",
    "１２",
    "٣٤",
    "१२",
    "𝟘𝟙",
    "〇",
    "1,234.5",
    "3.14",
    "x_1",
    "==",
    "->",
    "https://a.b/c?d",
    "\r\n",
    "    return x",
    "\n\n\n",
    " ",
    "  ",
    "   ",
    END,
    "<|",
    "#version: 0.2",
    "Ġ",
    "Ċ",
]


def draw_texts(count: int, pre_tokens: list[str]) -> list[str]:
    """Return texts in which everything stands beside everything, always the same."""
    rng, kinds = random.Random(0), list(KINDS.values())
    digits = [kind for name, kind in KINDS.items() if name[0] == "N"]
    parts: list[Callable[[], str]] = [
        lambda: "".join(rng.choices(rng.choice(kinds), k=rng.randint(1, 4))),
        lambda: "".join(rng.choices(SPACES, k=rng.randint(1, 5))),
        lambda: rng.choice(SPACES) * rng.randint(1, 4),
        lambda: "".join(rng.choice(rng.choice(digits)) for _ in range(3)),
        lambda: "".join(rng.choices("abcdehilorst '.,1 AE\n", k=rng.randint(1, 9))),
        lambda: rng.choice(SNIPPETS),
        lambda: rng.choice(pre_tokens),
        lambda: rng.choice(pre_tokens),
    ]
    return [
        "".join(rng.choice(parts)() for _ in range(rng.randint(1, 8)))
        for _ in range(count)
    ]


def test_ids_of_20000_texts_equal_those_of_two_other_programs(three: Three) -> None:
    ours, tik, hug = three
    pre_tokens = [token.decode(errors="replace") for token in ours.vocabulary.tokens]
    texts = draw_texts(22_000, pre_tokens)
    letters = set("".join(texts))
    assert len(set(texts)) > 20_000
    assert {unicodedata.category(letter) for letter in letters} >= set(KINDS)
    assert {ord(letter) >> 16 for letter in letters} == {0, 1, 2, 3, 14, 15, 16}
    theirs = tik.encode_ordinary_batch(texts, num_threads=1)
    for text, ids, others in zip(texts, theirs, hug.encode_batch(texts), strict=True):
        mine = ours.encode(text, special="text")
        assert mine == ids == others.ids, ascii(text)
        assert ours.decode(mine) == text
        assert ours.decode_bytes(mine) == text.encode()


@settings(max_examples=200, deadline=None)
@given(
    text=st.lists(
        st.characters(exclude_categories=["Cs", "Cn"])
        | st.sampled_from(SNIPPETS)
        | st.text(SPACES)
    ).map("".join)
)
def test_ids_of_any_text_equal_those_of_two_other_programs(
    three: Three, text: str
) -> None:
    ours, tik, hug = three
    ids = ours.encode(text, special="text")
    assert ids == tik.encode_ordinary(text) == hug.encode(text).ids
    assert ours.encode(text, special="token") == tik.encode(text, allowed_special="all")
    assert ours.decode(ids) == text


@pytest.mark.slow
def test_every_code_point_has_the_same_ids_and_comes_back(gpt2_folder: Path) -> None:
    ours, tik = Tokenizer.load(gpt2_folder), their_tiktoken(gpt2_folder)
    points = [*range(0xD800), *range(0xE000, sys.maxunicode + 1)]
    assert len(points) == 1_112_064
    text = "".join([f"{chr(point)}\n" for point in points])
    ids = ours.encode(text)
    assert ids == tik.encode_ordinary(text)
    assert ours.decode(ids) == text


def test_every_character_is_cut_as_by_tokenizers() -> None:
    theirs = ByteLevel(add_prefix_space=False)
    for characters in KINDS.values():
        for start in range(0, len(characters), 5000):
            some = characters[start : start + 5000]
            text = "".join([f"a{c}1{c} {c}" for c in some])
            cuts = [place for _, place in theirs.pre_tokenize_str(text)]
            assert [match.span() for match in GPT2_SPLIT_PATTERN.finditer(text)] == cuts


def test_pieces_side_by_side_are_the_text() -> None:
    for text in draw_texts(3000, SNIPPETS):
        assert "".join(GPT2_SPLIT_PATTERN.findall(text)) == text
        assert GPT2_SPLIT_PATTERN.findall(text) == OPENAI.findall(text)


def test_the_letters_of_the_bytes_are_those_of_openai() -> None:
    ours = {letter: byte for byte, letter in bytes_to_unicode().items()}
    assert ours == openai_letters()


def test_ids_that_openai_published(gpt2_folder: Path) -> None:
    ours = Tokenizer.load(gpt2_folder)
    assert ours.vocab_size == 50257 and len(ours.vocabulary.merges) == 50_000
    assert ours.vocabulary.special == {END: 50256}
    assert ours.encode("Hello, world!") == [15496, 11, 995, 0]
    assert ours.encode(f"a{END} a", special="token") == [64, 50256, 257]


def test_without_a_vocabulary_every_byte_is_a_token() -> None:
    ours = Tokenizer()
    assert ours.vocab_size == 256
    assert ours.encode("é\n🙂" + END) == list(("é\n🙂" + END).encode())


@pytest.mark.parametrize("policy", ["refuse", "token", "text"])
def test_no_text_has_no_tokens(policy: str) -> None:
    ours = Tokenizer.train("aab", 258)
    assert ours.encode("", special=policy) == [] and ours.decode([]) == ""


def test_a_text_met_before_has_the_same_ids_again(trained_folder: Path) -> None:
    ours, long = Tokenizer.load(trained_folder), "return" * 100
    for text in ("return", " return", "\n", long):
        first = ours.encode(text)
        again = ours.encode(text)
        assert again == first == Tokenizer.load(trained_folder).encode(text)
        again.append(0)  # the caller's own list
        assert ours.encode(text) == first


# Learning and merging: the reference replaces letters in a string


def slow_merges(text: str, count: int) -> list[tuple[tuple[int, int], int]]:
    """Count every pair anew for each merge; a token is the letter of that number."""
    words = [pre_token.encode().decode("latin-1") for pre_token in OPENAI.findall(text)]
    merges = []
    while len(merges) < count:
        counts = Counter(a + b for word in words for a, b in pairwise(word))
        if not counts:
            break
        most = max(counts.values())
        best = min(pair for pair in counts if counts[pair] == most)
        merges.append(((ord(best[0]), ord(best[1])), 256 + len(merges)))
        words = [word.replace(best, chr(merges[-1][1])) for word in words]
    return merges


def slow_ids(ids: list[int], merges: dict[tuple[int, int], int]) -> list[int]:
    """Do the earliest merge that is possible, everywhere, and look again."""
    word = "".join(map(chr, ids))
    while present := [p for p in pairwise(map(ord, word)) if p in merges]:
        first = min(present, key=merges.get)
        word = word.replace(chr(first[0]) + chr(first[1]), chr(merges[first]))
    return list(map(ord, word))


few = st.text("ab c'sé1\n", max_size=70) | st.text("a ", max_size=40)


@settings(max_examples=400, deadline=None)
@given(few, st.integers(0, 30))
def test_learned_merges_equal_those_of_counting_anew(text: str, count: int) -> None:
    wanted = slow_merges(text, count)
    assert list(train_bpe(text, len(wanted)).items()) == wanted
    if len(wanted) < count:
        said = f"allows {len(wanted)} merges, expected {count}"
        with pytest.raises(ValueError, match=said):
            train_bpe(text, count)


def test_learned_merges_of_a_longer_text_equal_those_of_counting_anew() -> None:
    text = load_text("python").decode()[:3000] + LANGUAGES
    assert list(train_bpe(text, 150).items()) == slow_merges(text, 150)


@settings(max_examples=100, deadline=None)
@given(few)
def test_whatever_is_learned_encodes_as_the_reference_and_can_be_saved(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    count = len(slow_merges(text, 20))
    ours = Tokenizer.train(text, 257 + count)
    merges = ours.vocabulary.merges
    pre_tokens = [slow_ids(list(p.encode()), merges) for p in OPENAI.findall(text)]
    assert ours.encode(text) == sum(pre_tokens, [])
    assert len(set(ours.vocabulary.tokens)) == ours.vocab_size == 257 + count
    folder = tmp_path_factory.mktemp("any")
    ours.save(folder)
    assert Tokenizer.load(folder).vocabulary == ours.vocabulary


def test_the_worked_example() -> None:
    ours = Tokenizer.train("aaabdaaabac", 259, special=())
    assert ours.vocabulary.merges == {(97, 97): 256, (97, 98): 257, (256, 257): 258}
    assert ours.encode("aaabdaaabac") == [258, 100, 258, 97, 99]
    assert ours.vocabulary.tokens[256:] == [b"aa", b"ab", b"aaab"]


def test_nothing_is_merged_across_pieces() -> None:
    ours = Tokenizer.train("a1a1a1a1!\n!\n!\n!\n ab ab", 258, special=())
    assert ours.vocabulary.tokens[256:] == [b" a", b" ab"]
    with pytest.raises(ValueError, match="allows 0 merges"):
        train_bpe("a1a1a1.a.\n", 1)


def test_the_vocabulary_is_as_large_as_wanted_and_special_tokens_come_last() -> None:
    ours = Tokenizer.train(LANGUAGES, 300, special=("<b>", "<a>"))
    assert ours.vocab_size == len(ours.vocabulary.tokens) == 300
    assert ours.vocabulary.special == {"<b>": 298, "<a>": 299}
    assert ours.vocabulary.tokens[298:] == [b"<b>", b"<a>"]
    assert ours.vocabulary.tokens[:298] == merged_bytes(ours.vocabulary.merges)
    assert list(ours.vocabulary.merges.values()) == list(range(256, 298))
    assert Tokenizer.train("", 256, special=()).vocabulary == Tokenizer().vocabulary


def test_the_same_merges_are_learned_whatever_the_hash_seed() -> None:
    text = "".join(random.Random(0).choices("abcdefgh ", k=800))  # with many ties
    command = (
        f"from gpt2_lesson.tokenizer import train_bpe; "
        f"print(list(train_bpe({text!r}, 120).items()))"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", command],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2")
    ]
    for run in runs:
        assert run.communicate()[0].strip() == str(slow_merges(text, 120))


@st.composite
def random_merges(draw: st.DrawFn) -> dict[tuple[int, int], int]:
    """Draw merges of a few letters, each of tokens that are known by then."""
    merges: dict[tuple[int, int], int] = {}
    for _ in range(draw(st.integers(0, 25))):
        known = st.sampled_from([97, 98, *merges.values()])
        merges.setdefault((draw(known), draw(known)), 256 + len(merges))
    return merges


@settings(max_examples=500, deadline=None)
@given(random_merges(), st.text("ab", max_size=60) | st.text("a", max_size=60))
def test_a_piece_is_merged_as_pass_by_pass(
    merges: dict[tuple[int, int], int], pre_token: str
) -> None:
    ids = list(pre_token.encode())
    assert merge_pre_token(ids, merges) == slow_ids(ids, merges)
    assert ids == list(pre_token.encode())  # unchanged


@pytest.mark.parametrize(
    "letters, wanted",
    [
        ("", []),
        ("a", [97]),
        ("aa", [256]),
        ("aaa", [256, 97]),
        ("aaaa", [257]),
        ("aaaaa", [257, 97]),
        ("aaaaaaa", [257, 256, 97]),
        ("baaa", [98, 256, 97]),
    ],
)
def test_runs_are_merged_from_the_left(letters: str, wanted: list[int]) -> None:
    merges = {(97, 97): 256, (256, 256): 257, (97, 256): 258}
    assert merge_pre_token(letters.encode(), merges) == wanted


@given(st.lists(st.integers(0, 3)), st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_a_pair_is_replaced_as_in_a_string(
    ids: list[int], pair: tuple[int, int]
) -> None:
    letters = "".join(map(chr, ids)).replace("".join(map(chr, pair)), chr(9))
    assert merge_pair(ids, pair, 9) == list(map(ord, letters))


def test_a_run_without_end_is_merged_in_seconds() -> None:
    merges = {(97, 97): 256} | {(255 + n, 255 + n): 256 + n for n in range(1, 17)}
    started = process_time()
    ids = merge_pre_token(b"a" * 200_000, merges)
    assert process_time() - started < 10
    halvings = range(17, 0, -1)  # token 255 + n stands for 2 ** n letters
    assert ids == [255 + n for n in halvings if 200_000 >> n & 1]


def test_200000_equal_characters_are_encoded_in_seconds(three: Three) -> None:
    ours, _, hug = three
    for character in "a *🙂":
        text = 200_000 * character
        started = process_time()
        ids = ours.encode(text)
        assert process_time() - started < 10
        assert ids == hug.encode(text).ids


def test_a_hostile_text_does_not_fill_the_memory() -> None:
    ours = Tokenizer()
    for text in ("x" * 100_000, " ".join(map(str, range(210_000)))):
        assert bytes(ours.encode(text)) == text.encode()
    assert len(ours.known) <= 200_000 and len(max(ours.known, key=len)) < 100


# Special tokens


SPECIAL = ("<a>", "<a>b", ".*.", "<a>bc", "<fim prefix>", "é🙂", '"\\n', "\u2028\u2028")
names_and_letters = st.lists(st.sampled_from([*SPECIAL, *"<a>bc.* \u2028\n🙂é"]))


@cache
def special_tokenizer() -> Tokenizer:
    return Tokenizer.train(LANGUAGES, 300, special=SPECIAL)


def slow_special(ours: Tokenizer, text: str) -> list[int]:
    """Read the longest special name that begins here, or up to where one begins."""
    special, ids, start, here = ours.vocabulary.special, [], 0, 0
    while here < len(text):
        fits = [name for name in special if text.startswith(name, here)]
        if not fits:
            here += 1
            continue
        name = max(fits, key=len)
        ids += ours.encode(text[start:here], special="text") + [special[name]]
        start = here = here + len(name)
    return ids + ours.encode(text[start:], special="text")


@settings(max_examples=200, deadline=None)
@given(names_and_letters.map("".join))
def test_special_tokens_are_the_longest_names_from_the_left(text: str) -> None:
    ours = special_tokenizer()
    ids = ours.encode(text, special="token")
    assert ids == slow_special(ours, text) and ours.decode(ids) == text
    letters = ours.encode(text, special="text")
    assert ours.decode(letters) == text
    assert not set(letters) & set(ours.vocabulary.special.values())
    if letters == ids:
        assert ours.encode(text) == ids
    else:
        with pytest.raises(ValueError, match="the text has the special token"):
            ours.encode(text)


def test_the_longest_of_two_special_names_wins() -> None:
    ours = special_tokenizer()
    ids = [ours.vocabulary.special[name] for name in ("<a>bc", "<a>", ".*.", "<a>b")]
    assert ours.encode("<a>bc<a>.*.<a>b", special="token") == ids


# Decoding


@given(st.binary())
def test_decoding_is_that_of_python_and_decode_bytes_loses_nothing(data: bytes) -> None:
    ours = Tokenizer()
    assert ours.decode_bytes(list(data)) == data
    assert ours.decode(list(data)) == data.decode("utf-8", errors="replace")


def test_half_a_character_is_a_replacement_sign() -> None:
    ours = Tokenizer()
    smile = ours.encode("🙂")
    assert ours.decode(smile[:2]) == "\ufffd" and ours.decode(smile) == "🙂"
    assert ours.decode([97, 0xFF, 98, 0xC3]) == "a\ufffdb\ufffd"
    assert ours.decode_bytes(smile[:2]) == "🙂".encode()[:2]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_ids_are_the_bytes_of_each_side_by_side(
    three: Three, data: st.DataObject
) -> None:
    ours, tik, _ = three
    ids = data.draw(st.lists(st.integers(0, ours.vocab_size - 1)))
    assert ours.decode_bytes(ids) == b"".join(ours.decode_bytes([i]) for i in ids)
    assert ours.decode_bytes(ids) == tik.decode_bytes(ids)
    assert ours.decode(ids) == tik.decode(ids, errors="replace")


@pytest.mark.parametrize(
    "form",
    [
        torch.tensor,
        np.array,
        tuple,
        iter,
        lambda ids: torch.tensor(ids).int(),
        lambda ids: np.array(ids, dtype=np.uint16),
    ],
)
def test_ids_may_stand_in_a_tensor_or_an_array(form: Callable) -> None:
    ours = Tokenizer.train("aaabdaaabac", np.int64(259), special=())
    assert ours.decode(form([258, 100, 258, 97, 99])) == "aaabdaaabac"


# Files


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    ours = special_tokenizer()
    ours.save(tmp_path / "new" / "folder")
    again = Tokenizer.load(tmp_path / "new" / "folder")
    assert again.vocabulary == ours.vocabulary
    assert list(again.vocabulary.merges) == list(ours.vocabulary.merges)
    text = "a".join(SPECIAL) + LANGUAGES
    for policy in ("token", "text"):
        assert again.encode(text, policy) == ours.encode(text, policy)
    Tokenizer().save(tmp_path / "new" / "folder")  # over the larger one
    assert Tokenizer.load(tmp_path / "new" / "folder").vocab_size == 256


@pytest.mark.parametrize(
    "special",
    [
        ("in",),
        ("a",),
        ("é",),
        ("Ġ",),
        ("zq",),
        ("<a>", "<a>"),
        END,
        ("",),
        ("\n",),
    ],
    ids=ascii,
)
def test_a_special_name_is_refused_or_does_no_harm(
    tmp_path: Path, special: tuple[str, ...]
) -> None:
    text = "in a line\né in\n"
    try:
        ours = Tokenizer.train(9 * text + LANGUAGES, 300, special=special)
    except (TypeError, ValueError) as error:
        assert "special" in str(error)
        return
    assert ours.encode("42") == ours.encode("42", special="text")
    ids = ours.encode(text, special="text")
    assert not set(ids) & set(ours.vocabulary.special.values())
    assert ours.decode(ours.encode(text, special="token")) == text
    ours.save(tmp_path)
    assert Tokenizer.load(tmp_path).vocabulary == ours.vocabulary


def test_saving_what_was_loaded_gives_the_same_files(
    folder: Path, tmp_path: Path
) -> None:
    Tokenizer.load(folder).save(tmp_path)
    vocabs, merges = (
        [(each / name).read_bytes() for each in (folder, tmp_path)]
        for name in FILES[:2]
    )
    assert json.loads(vocabs[0]) == json.loads(vocabs[1])
    assert merges[0] == merges[1]
    assert merges[0].startswith(b"#version: 0.2\n") and merges[0].endswith(b"\n")
    assert names_in(tmp_path) == ["merges.txt", "tokenizer.json", "vocab.json"]
    assert read_vocabulary(tmp_path) == read_vocabulary(folder)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids = Tokenizer.load(folder).encode(LANGUAGES)
    assert theirs.encode(LANGUAGES).ids == ids and theirs.decode(ids) == LANGUAGES


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def as_tokenizer_json(folder: Path, target: Path) -> dict:
    """Let `tokenizers` write the same vocabulary as one file; return its content."""
    theirs = their_tokenizers(folder)
    theirs.add_special_tokens([END])
    theirs.save(str(target / "tokenizer.json"))
    return json.loads((target / "tokenizer.json").read_bytes())


def put(folder: Path, about: object) -> None:
    (folder / "tokenizer.json").write_text(json.dumps(about), encoding="utf-8")


def test_both_forms_of_file_give_the_same_vocabulary(
    folder: Path, tmp_path: Path
) -> None:
    wanted = read_vocabulary(folder)
    about = as_tokenizer_json(folder, tmp_path)
    assert same_order(read_vocabulary(tmp_path)) == same_order(wanted)
    model = about["model"]
    model["merges"] = [" ".join(pair) for pair in model["merges"]]  # as it used to be
    del model["vocab"][END]  # then only `added_tokens` has it
    put(tmp_path, about)
    assert same_order(read_vocabulary(tmp_path)) == same_order(wanted)


def same_order(vocabulary: Vocabulary) -> tuple:
    return (vocabulary.tokens, list(vocabulary.merges.items()), vocabulary.special)


TOLERATED = {
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "no last newline": lambda text: text.rstrip("\n"),
    "no header": lambda text: text.partition("\n")[2],
    "CRLF, no header, no last newline": lambda text: (
        text.partition("\n")[2].rstrip("\n").replace("\n", "\r\n")
    ),
    "empty lines at the end": lambda text: text + "\n\n",
}


@pytest.mark.parametrize("edit", TOLERATED.values(), ids=TOLERATED)
def test_line_ends_and_header_do_not_matter(
    folder: Path, tmp_path: Path, edit: Callable[[str], str]
) -> None:
    shutil.copy(folder / "vocab.json", tmp_path)
    text = edit((folder / "merges.txt").read_bytes().decode())
    (tmp_path / "merges.txt").write_bytes(text.encode())
    assert same_order(read_vocabulary(tmp_path)) == same_order(read_vocabulary(folder))


def small_folder(tmp_path: Path, merges: int = 24) -> tuple[Path, list[str]]:
    """Save vocab.json and merges.txt; return their folder and the merges' lines."""
    Tokenizer.train(LANGUAGES, 257 + merges).save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    return tmp_path, (tmp_path / "merges.txt").read_text(encoding="utf-8").split("\n")


def put_lines(folder: Path, lines: list[str]) -> None:
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")


def test_any_two_swapped_lines_are_refused(tmp_path: Path) -> None:
    folder, lines = small_folder(tmp_path)
    for i, j in combinations(range(1, 25), 2):
        swapped = list(lines)
        swapped[i], swapped[j] = lines[j], lines[i]
        put_lines(folder, swapped)
        with pytest.raises(ValueError) as caught:
            read_vocabulary(folder)
        said = str(caught.value)
        joined = {line.replace(" ", "") for line in lines[i:j]}
        number = i if joined & set(lines[j].split()) else i + 1  # the first wrong one
        assert f"merges.txt: merge {number}, {swapped[number]!r}, " in said, said
    put_lines(folder, lines)
    assert read_vocabulary(folder).special == {END: 280}


def test_any_line_left_out_is_refused(tmp_path: Path) -> None:
    folder, lines = small_folder(tmp_path, 60)
    for i in range(1, 61):
        put_lines(folder, lines[:i] + lines[i + 1 :])
        with pytest.raises(ValueError, match=r"merges\.txt: "):
            read_vocabulary(folder)


def test_a_merge_of_unknown_halves_is_refused(tmp_path: Path) -> None:
    folder, lines = small_folder(tmp_path, 60)
    names = set(json.loads((folder / "vocab.json").read_bytes()))
    number, name = next(
        (i, line.replace(" ", ""))
        for i, line in enumerate(lines)
        if i and len(line) > 4
    )
    cuts = [(name[:k], name[k:]) for k in range(1, len(name))]
    lines[number] = next(" ".join(cut) for cut in cuts if not names.issuperset(cut))
    put_lines(folder, lines)
    with pytest.raises(ValueError, match=rf"merges\.txt: merge {number}, '"):
        read_vocabulary(folder)


@pytest.mark.parametrize(
    "line",
    [
        "Q Z",
        "a",
        "a b c",
        " a",
        "a ",
        "a  b",
        f"{END} a",
        "あ a",
        "the same again",
    ],
)
def test_a_line_that_is_no_merge_is_refused(tmp_path: Path, line: str) -> None:
    folder, lines = small_folder(tmp_path)
    lines[20] = lines[19] if line.endswith("again") else line
    put_lines(folder, lines)
    with pytest.raises(ValueError, match=r"merges\.txt: merge 20, '"):
        read_vocabulary(folder)


@pytest.mark.parametrize("left", [0, 1, 12, 23])
def test_a_cut_off_merges_txt_is_refused(tmp_path: Path, left: int) -> None:
    folder, lines = small_folder(tmp_path)
    put_lines(folder, lines[: left + 1] + [""])
    with pytest.raises(ValueError, match=r"merges\.txt"):
        read_vocabulary(folder)


def drop(name: str) -> Callable[[dict], dict]:
    return lambda vocab: {key: i for key, i in vocab.items() if key != name}


VOCAB_EDITS: dict[str, Callable[[dict], object]] = {
    "an id twice": lambda vocab: vocab | {"a": vocab["b"]},
    "a hole": lambda vocab: vocab | {END: len(vocab)},
    "below 0": lambda vocab: vocab | {"a": -1},
    "a byte renamed": lambda vocab: drop("a")(vocab) | {"あ": vocab["a"]},
    "a list": list,
    "a number": lambda vocab: 5,
}


@pytest.mark.parametrize("edit", VOCAB_EDITS.values(), ids=VOCAB_EDITS)
def test_a_damaged_vocab_json_is_refused(
    tmp_path: Path, edit: Callable[[dict], object]
) -> None:
    folder, _ = small_folder(tmp_path)
    vocab = json.loads((folder / "vocab.json").read_bytes())
    (folder / "vocab.json").write_text(json.dumps(edit(vocab)), encoding="utf-8")
    with pytest.raises(ValueError, match=regex.escape(str(folder))):
        read_vocabulary(folder)


def test_a_missing_byte_or_token_is_named(tmp_path: Path) -> None:
    folder, lines = small_folder(tmp_path)
    vocab = json.loads((folder / "vocab.json").read_bytes())
    for name, said in (
        ("Ġ", "no token for 1 bytes, such as 'Ġ'"),
        (lines[7].replace(" ", ""), f"merge 7, '{lines[7]}', does"),
    ):
        renamed = drop(name)(vocab) | {"あ": vocab[name]}
        (folder / "vocab.json").write_text(json.dumps(renamed), encoding="utf-8")
        with pytest.raises(ValueError, match=regex.escape(said)):
            read_vocabulary(folder)


def test_the_file_with_the_wrong_ids_is_named(tmp_path: Path) -> None:
    folder, _ = small_folder(tmp_path)
    vocab = json.loads((folder / "vocab.json").read_bytes())
    (folder / "vocab.json").write_text(json.dumps(vocab | {"a": 5}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"vocab\.json"):
        read_vocabulary(folder)


@pytest.mark.parametrize("wrong", [None, "97", 97.0, [97]], ids=str)
def test_an_id_that_is_no_whole_number_is_refused(
    tmp_path: Path, wrong: object
) -> None:
    folder, _ = small_folder(tmp_path)
    vocab = json.loads((folder / "vocab.json").read_bytes())
    (folder / "vocab.json").write_text(json.dumps(vocab | {"a": wrong}))
    with pytest.raises(ValueError, match=regex.escape(str(folder))):
        read_vocabulary(folder)


@pytest.mark.parametrize("end", [0, 1, 1000, -1])
def test_a_cut_off_vocab_json_is_refused(tmp_path: Path, end: int) -> None:
    folder, _ = small_folder(tmp_path)
    whole = (folder / "vocab.json").read_bytes()
    (folder / "vocab.json").write_bytes(whole[:end])
    with pytest.raises(ValueError, match=r"vocab\.json is damaged"):
        read_vocabulary(folder)


def test_a_merges_txt_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    folder, _ = small_folder(tmp_path)
    (folder / "merges.txt").write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(ValueError, match=r"merges\.txt"):
        read_vocabulary(folder)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder, _ = small_folder(tmp_path)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        Tokenizer.load(folder)
    assert all(word in str(caught.value) for word in (str(folder), *FILES))


def model(**changes: object) -> Callable[[dict], dict]:
    return lambda about: about | {"model": about["model"] | changes}


def whole(**changes: object) -> Callable[[dict], dict]:
    return lambda about: about | changes


def level(**changes: object) -> Callable[[dict], dict]:
    return lambda about: about | {"pre_tokenizer": about["pre_tokenizer"] | changes}


OTHER_KINDS = {
    "add_prefix_space": level(add_prefix_space=True),
    "WordPiece": model(type="WordPiece"),
    "Unigram": model(type="Unigram", vocab=[["a", -1.0]]),
    "normalizer": whole(normalizer={"type": "NFC"}),
    "Metaspace": whole(pre_tokenizer={"type": "Metaspace"}),
    "Sequence": whole(pre_tokenizer={"type": "Sequence", "pretokenizers": []}),
    "nothing cuts": whole(pre_tokenizer=None),
    "no byte letters": model(vocab={"a": 0, "b": 1}, merges=[]),
    "merges swapped": lambda about: model(merges=about["model"]["merges"][::-1])(about),
    "use_regex": level(use_regex=False),
    "prefix": model(continuing_subword_prefix="##"),
    "suffix": model(end_of_word_suffix="</w>"),
    "no model": whole(model=None),
    "model a list": whole(model=[1]),
    "no merges": model(merges=None),
    "vocab a list": model(vocab=[]),
    "vocab of texts": model(vocab={"a": "0"}),
    "added null": whole(added_tokens=None),
    "a number for a merge": model(merges=[[3, 4]]),
    "numbers for merges": model(merges=[3, 4]),
    "a merge of one": model(merges=["a"]),
    "dropout": model(dropout=0.1),
    "ignore_merges": model(ignore_merges=True),
    "added ''": whole(added_tokens=[{"id": 800, "content": ""}]),
    "added a number": whole(added_tokens=[{"id": 800, "content": 5}]),
    "added half": whole(added_tokens=[{"id": 800, "content": "<\ud800>"}]),
    "added twice": whole(added_tokens=2 * [{"id": 800, "content": "<a>"}]),
    "added with a gap": whole(added_tokens=[{"id": 801, "content": "<a>"}]),
    "added, another id": whole(added_tokens=[{"id": 70, "content": "a"}]),
    "an option of text": whole(
        added_tokens=[{"id": 800, "content": "<a>", "lstrip": "yes"}]
    ),
}


@pytest.mark.parametrize("edit", OTHER_KINDS.values(), ids=OTHER_KINDS)
def test_a_tokenizer_json_of_another_kind_is_refused(
    trained_folder: Path, tmp_path: Path, edit: Callable[[dict], dict]
) -> None:
    about = as_tokenizer_json(trained_folder, tmp_path)
    put(tmp_path, edit(about))
    with pytest.raises(ValueError, match=regex.escape(f"{tmp_path}/tokenizer.json")):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("fails_at", [1, 2, 3])
@pytest.mark.parametrize("count", [10, 40])
def test_a_save_that_fails_leaves_the_old_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int, count: int
) -> None:
    folder, _ = small_folder(tmp_path)
    before = read_vocabulary(folder)
    writes, sync = iter(range(1, 9)), os.fsync

    def full(handle: int) -> None:
        if next(writes) == fails_at:
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"cannot write {folder}.*: No space left"):
        Tokenizer.train(LANGUAGES[::-1], 257 + count).save(folder)
    assert names_in(folder) == ["merges.txt", "vocab.json"]
    assert read_vocabulary(folder) == before


def test_a_file_behind_a_link_is_made_beside_its_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other, replace = tmp_path / "one", tmp_path / "other disk", os.replace
    small_folder(other)
    folder.mkdir()
    for name in names_in(other):
        (folder / name).symlink_to(other / name)

    def within_a_disk(old: Path, new: Path) -> None:
        if Path(old).parent != Path(new).parent:
            raise OSError(18, "Invalid cross-device link")
        replace(old, new)

    monkeypatch.setattr(os, "replace", within_a_disk)
    Tokenizer.train(LANGUAGES, 262).save(folder)
    assert all((folder / name).is_symlink() for name in ("merges.txt", "vocab.json"))
    assert names_in(other) == ["merges.txt", "vocab.json"]
    assert read_vocabulary(other) == read_vocabulary(folder)
    assert read_vocabulary(other).special == {END: 261}


def test_a_list_of_added_tokens_without_their_options_is_refused(
    tmp_path: Path,
) -> None:
    folder, _ = small_folder(tmp_path)
    (folder / "added_tokens.json").write_text('{"<pad>": 281}', encoding="utf-8")
    with pytest.raises(ValueError, match="added_tokens.json .*tokenizer.json"):
        Tokenizer.load(folder)
    Tokenizer.train(LANGUAGES, 262).save(folder)
    assert "added_tokens.json" not in names_in(folder)


# Added tokens, as the library `tokenizers` finds them


NAMES = (
    "User:",
    "<a>",
    "<a>b",
    "~",
    "the",
    "Ġthe",
    "é",
    "日本",
    " x",
    "x ",
    "a b",
    "\n\n",
    "_",
    "'s",
    "🙂",
    "in",
    "cat",
    "!",
    "1234",
    "\u3000",
    "Größe",
    ".*",
    "|",
    "<b>",
)
OPTIONS = ("special", "single_word", "lstrip", "rstrip", "normalized")


def added_case(
    trained: Path, target: Path, draw: random.Random
) -> tuple[Tokenizer, tokenizers.Tokenizer, list[str]]:
    """Add some tokens with random options; return ours, theirs and the names."""
    content = json.loads((trained / "tokenizer.json").read_bytes())
    vocab, names = content["model"]["vocab"], draw.sample(NAMES, draw.randint(1, 6))
    fresh = iter(range(len(vocab), 2000))
    for name in names:
        token = {option: draw.random() < 0.3 for option in OPTIONS}
        at = vocab[name] if name in vocab else next(fresh)
        content["added_tokens"].append({"id": at, "content": name} | token)
    put(target, content)
    theirs = tokenizers.Tokenizer.from_file(str(target / "tokenizer.json"))
    return Tokenizer.load(target), theirs, names


@pytest.mark.parametrize("seed", range(60))
def test_added_tokens_are_found_as_by_tokenizers(
    trained_folder: Path, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    ours, theirs, names = added_case(trained_folder, tmp_path, draw)
    ours.save(tmp_path / "again")
    again = Tokenizer.load(tmp_path / "again")
    assert again.vocabulary == ours.vocabulary
    parts = [*names, *names, END, *SNIPPETS, *SPACES, "a", "b", "cat", " the", "_", "."]
    for _ in range(100):
        text = "".join(draw.choices(parts, k=draw.randint(1, 9)))
        theirs.encode_special_tokens = False
        try:
            ids = theirs.encode(text).ids
        except BaseException as error:  # tokens that overlap make the library panic
            assert "AddedVocabulary bad split" in str(error)
            ours.encode(text, "token")
            continue
        assert ours.encode(text, "token") == again.encode(text, "token") == ids, text
        theirs.encode_special_tokens = True  # that is: special ones are text
        as_text = theirs.encode(text).ids
        assert ours.encode(text, "text") == as_text, text
        if ids != as_text:
            with pytest.raises(ValueError, match="special token"):
                ours.encode(text)
        elif not set(ids) & set(ours.vocabulary.special.values()):
            assert ours.encode(text) == ids


@pytest.mark.slow
def test_what_is_a_word_and_what_is_white_space_as_by_tokenizers(
    trained_folder: Path, tmp_path: Path
) -> None:
    """Every assigned character beside a token that must be a word, or takes space."""
    content = json.loads((trained_folder / "tokenizer.json").read_bytes())
    for i, options in enumerate((["single_word"], ["lstrip", "rstrip"])):
        content["added_tokens"].append(
            {"id": 800 + i, "content": f"<{i}>"}
            | {name: name in options for name in OPTIONS}
        )
    put(tmp_path, content)
    ours = Tokenizer.load(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    characters = sum(KINDS.values(), [])
    for i in range(0, len(characters), 2000):
        text = "".join(f"{c}<0> <0>{c}.{c}<1>{c}!" for c in characters[i : i + 2000])
        text = text.replace(END, "")
        assert ours.encode(text) == theirs.encode(text).ids


def test_an_added_token_is_decoded_as_it_was_written(
    trained_folder: Path, tmp_path: Path
) -> None:
    content = json.loads((trained_folder / "tokenizer.json").read_bytes())
    names = ["User:", "日本", "<é>", "~"]
    vocab = content["model"]["vocab"]
    for i, name in enumerate(names):
        content["added_tokens"].append(
            {
                "id": vocab.get(name, 800 + i),
                "content": name,
                "special": False,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": True,
            }
        )
    put(tmp_path, content)
    ours = Tokenizer.load(tmp_path)
    text = "User: 日本 <é>~ bye"
    ids = ours.encode(text)
    assert ours.decode(ids) == text and {800, 801, 802} <= set(ids)


# Where a vocabulary is looked for


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder, with empty caches; return the course's own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("GPT2_LESSON_CACHE", str(tmp_path / "cache"))
    theirs = str(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", theirs)
    return tmp_path / "cache"


def fake_network(monkeypatch: pytest.MonkeyPatch, fetch: Callable) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)


def test_an_unknown_name_is_told_the_known_ones(away: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Tokenizer.load("gpt3")
    assert all(name in str(caught.value) for name in ("gpt3", *GPT2_REPOSITORIES))


@pytest.mark.parametrize("name", GPT2_REPOSITORIES)
def test_without_a_network_it_says_which_files_to_put_where(
    away: Path, name: str
) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Tokenizer.load(name)
    words = (str(away / name), *FILES, f"huggingface.co/{GPT2_REPOSITORIES[name]}")
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    "error",
    [
        OSError("no route\nto host"),
        KeyError("x"),
        TimeoutError(),
        OSError("\n"),
    ],
    ids=repr,
)
def test_whatever_goes_wrong_in_the_network_it_says_what_to_do(
    away: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    fake_network(monkeypatch, fail)
    with pytest.raises(FileNotFoundError, match="could not be downloaded") as caught:
        find_folder("gpt2", FILES)
    assert str(away / "gpt2") in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_wins_over_the_cache_and_the_cache_over_the_network(
    away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_network(monkeypatch, lambda *_, **__: pytest.fail("asked the network"))
    small_folder(away / "gpt2", 5)
    assert find_folder("gpt2", FILES) == away / "gpt2"
    assert Tokenizer.load().vocab_size == Tokenizer.load("gpt2").vocab_size == 262
    small_folder(Path("gpt2"), 7)
    assert Tokenizer.load("gpt2").vocab_size == 264
    (away / "distilgpt2").mkdir()
    (away / "distilgpt2" / "vocab.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=f"no vocabulary in {away}/distilg"):
        Tokenizer.load("distilgpt2")


def test_only_the_wanted_files_are_fetched(
    away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(repository: str, **settings: object) -> str:
        asked.append((repository, settings["allow_patterns"]))
        small_folder(away / "fetched", 5)
        return str(away / "fetched")

    (away / "gpt2").mkdir(parents=True)  # empty
    fake_network(monkeypatch, fetch)
    assert Tokenizer.load("gpt2").vocab_size == 262
    assert asked == [("openai-community/gpt2", list(FILES))]


def test_the_cache_folder(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == away
    monkeypatch.setenv("GPT2_LESSON_CACHE", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere"
    for unset in (
        lambda: monkeypatch.setenv("GPT2_LESSON_CACHE", ""),
        lambda: monkeypatch.delenv("GPT2_LESSON_CACHE"),
    ):
        unset()
        assert cache_folder() == Path.home() / ".cache" / "gpt2_lesson"
    small_folder(away / "own")
    monkeypatch.setenv("HOME", str(away))
    assert find_folder("~/own", FILES) == away / "own"


# Bad input


def encode(text: object, special: object = "refuse") -> Callable:
    return lambda: Tokenizer.train("aab", 258).encode(text, special)


def decode(ids: object) -> Callable:
    return lambda: Tokenizer.train("aab", 258).decode(ids)


def train(*arguments: object, **settings: object) -> Callable:
    return lambda: Tokenizer.train(*arguments, **settings)


ADVICE = "text.encode('utf-8', 'replace').decode()"
TABLE = [
    ("None", encode(None), TypeError, ["text is None", "expected a str"]),
    ("bytes", encode(b"a"), TypeError, ["text is b'a'", "a str", ".decode('utf-8')"]),
    ("5", encode(5), TypeError, ["text is 5", "expected a str"]),
    ("list", encode(["a"]), TypeError, ["text is ['a']", "expected a str"]),
    ("high half", encode("ab\ud83d"), ValueError, ["character 2", "'\\ud83d'", ADVICE]),
    ("low half", encode("🙂\udc00é"), ValueError, ["character 1", "'\\udc00'", ADVICE]),
    ("half, as text", encode("\ud800", "text"), ValueError, ["character 0", ADVICE]),
    (
        "special",
        encode(f"ab{END}"),
        ValueError,
        [END, "at 2", "special='token'", "special='text'"],
    ),
    (
        "policy",
        encode("a", "all"),
        ValueError,
        ["'all'", "'refuse', 'token' or 'text'"],
    ),
    ("policy None", encode("a", None), ValueError, ["None", "'refuse'"]),
    ("policy True", encode("", True), ValueError, ["True", "'refuse'"]),
    ("id = V", decode([97, 258]), IndexError, ["258 at 1", "0 to 257"]),
    ("id = -1", decode([-1]), IndexError, ["-1 at 0", "0 to 257"]),
    ("id = 1.5", decode([97, 1.5]), TypeError, ["ids[1] is 1.5", "whole number"]),
    ("id = 1.0", decode([1.0]), TypeError, ["ids[0] is 1.0", "whole number"]),
    ("id = True", decode([True]), TypeError, ["ids[0] is True", "whole number"]),
    ("id = None", decode([None]), TypeError, ["ids[0] is None", "whole number"]),
    ("float tensor", decode(torch.ones(2)), TypeError, ["ids[0] is 1.0", "whole"]),
    ("bool tensor", decode(torch.tensor([True])), TypeError, ["ids[0] is True"]),
    ("large in a tensor", decode(torch.tensor([258])), IndexError, ["258 at 0"]),
    ("text", decode("text"), TypeError, ["'text'", "list of token ids"]),
    ("bytes of ids", decode(b"ab"), TypeError, ["b'ab'", "list of token ids"]),
    ("one id", decode(5), TypeError, ["ids is 5", "list of token ids"]),
    ("no ids", decode(None), TypeError, ["ids is None", "list of token ids"]),
    ("0-D", decode(torch.tensor(3)), TypeError, ["tensor(3)", "list of token ids"]),
    (
        "id of a padded model",
        decode([50_300]),
        IndexError,
        ["50300 at 0", "load_gpt2(..., vocab_size=258)"],
    ),
    ("2-D", decode(torch.tensor([[3, 4]])), TypeError, ["[3, 4]", "one at a time"]),
    ("2-D array", decode(np.array([[3]])), TypeError, ["[3]", "one at a time"]),
    ("batch", decode([[3], [4]]), TypeError, ["ids[0] is [3]", "one at a time"]),
    ("too small", train("aab", 256), ValueError, ["vocab_size is 256", "least 257"]),
    ("negative", train("aab", -1, special=()), ValueError, ["is -1", "least 256"]),
    (
        "too short",
        train("aab", 260),
        ValueError,
        ["allows 2 merges, expected 3", "longer text", "smaller vocabulary"],
    ),
    ("no text", train("", 258), ValueError, ["allows 0 merges, expected 1"]),
    ("train on bytes", train(b"aab", 258), TypeError, ["b'aab'", ".decode('utf-8')"]),
    ("train on half", train("a\ud800", 257), ValueError, ["character 1", ADVICE]),
]


@pytest.mark.parametrize(
    ("call", "kind", "words"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_bad_input_is_told(call: Callable, kind: type, words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        call()
    said = str(caught.value)
    assert all(word in said for word in words), said


def test_the_advice_for_half_a_character_works() -> None:
    text = "ab\ud83d"
    mended = eval(ADVICE, {"text": text})
    assert mended == "ab?" and Tokenizer().encode(mended) == list(b"ab?")


@pytest.mark.parametrize("policy", ["refuse", "token", "text"])
def test_each_policy_for_a_special_token_in_the_text(three: Three, policy: str) -> None:
    ours, tik, hug = three
    last, text = ours.vocab_size - 1, f"a{END}\n"
    if policy == "refuse":
        with pytest.raises(ValueError, match=regex.escape(END)):
            ours.encode(text)
    elif policy == "token":
        wanted = tik.encode(text, allowed_special="all")
        assert ours.encode(text, special=policy) == wanted and wanted[1] == last
    else:
        assert ours.encode(text, special=policy) == hug.encode(text).ids
    with pytest.raises(IndexError, match=f"token id {last + 1} at 0: .* 0 to {last}"):
        ours.decode([last + 1])
