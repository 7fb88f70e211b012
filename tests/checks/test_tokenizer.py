"""The checks of byte-pair encoding: catalogue entries T."""

import codecs
import io
import re
from collections import Counter
from itertools import pairwise

import pytest
import regex
from catalogue import (
    Catalogue,
    function_of,
)

from gpt2_lesson import checks
from gpt2_lesson.tokenizer import GPT2_SPLIT_PATTERN, Tokenizer, merge_pair

EXTRA = {
    "codecs": codecs,
    "io": io,
    "Counter": Counter,
    "pairwise": pairwise,
    "GPT2_SPLIT_PATTERN": GPT2_SPLIT_PATTERN,
    "re": re,
    "regex": regex,
    "merge_pair": merge_pair,
    "count_pairs": lambda ids: Counter(pairwise(ids)),
}

COUNT = {
    "T4": """counts, i = {}, 0
while i < len(ids) - 1:
    pair = (ids[i], ids[i + 1])
    counts[pair] = counts.get(pair, 0) + 1
    i += 2 if i + 2 < len(ids) and ids[i] == ids[i + 1] == ids[i + 2] else 1
return counts""",
    "T4'": "return {p: bytes(ids).count(bytes(p)) for p in zip(ids, ids[1:])}",
    "T4s": """counts = {}
for i in range(0, len(ids) - 1, 2):
    pair = ids[i], ids[i + 1]
    counts[pair] = counts.get(pair, 0) + 1
return counts""",
    "T4o": "return Counter(tuple(sorted(p)) for p in zip(ids, ids[1:]))",
    "T4i": "return Counter(ids)",
}
LOOP = """counts = {}
for i in range(len(ids) - 1):
    pair = ids[i], ids[i + 1]
    counts[pair] = counts.get(pair, 0) + 1
return counts"""
COUNT |= {
    "T4l": LOOP.replace("- 1)", "- 2)"),
    "T4f": LOOP.replace("range(", "range(1, "),
    "T4p": LOOP.replace("pair, 0", "pair, 1"),
    "T4m": LOOP.replace(
        "counts.get(pair, 0) + 1", "counts[pair] + 1 if pair in counts else 0"
    ),
    "T4c": LOOP.replace("counts.get(pair, 0) + 1", "1"),
    "T4b": LOOP.replace("ids[i], ids[i + 1]", "ids[i + 1], ids[i]"),
    "T4r": LOOP.replace("ids[i], ids[i + 1]", "ids[i - 1], ids[i]").replace(
        "range(len(ids) - 1)", "range(len(ids))"
    ),
    "T4t": LOOP.replace("ids[i], ids[i + 1]", "tuple(ids[i:i + 2])").replace(
        "range(len(ids) - 1)", "range(len(ids))"
    ),
}
MERGE = {
    "T3": """out, i = [], 0
while i < len(ids):
    if i < len(ids) - 1 and ids[i] == pair[0] and ids[i + 1] == pair[1]:
        out.append(new)
    else:
        out.append(ids[i])
    i += 1
return out""",
    "T3's": """out, skip = [], False
for i in range(len(ids) - 1):
    if skip:
        skip = False
    elif (ids[i], ids[i + 1]) == pair:
        out.append(new)
        skip = True
    else:
        out.append(ids[i])
return out""",
    "T3n": """out, i = [], 0
while i < len(ids):
    if ids[i:i + 2] == pair:
        out.append(new)
        i += 2
    else:
        out.append(ids[i])
        i += 1
return out""",
    "T3f": """for i in range(len(ids) - 1):
    if (ids[i], ids[i + 1]) == pair:
        return ids[:i] + [new] + ids[i + 2:]
return ids""",
    "T3i": """i = 0
while i < len(ids) - 1:
    if (ids[i], ids[i + 1]) == pair:
        ids[i:i + 2] = [new]
    i += 1
return ids""",
    "T3b": """out, i = [], len(ids) - 1
while i >= 0:
    if i > 0 and (ids[i - 1], ids[i]) == pair:
        out.insert(0, new)
        i -= 2
    else:
        out.insert(0, ids[i])
        i -= 1
return out""",
}
WALK = """out, i = [], 0
while i < len(ids):
    if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
        out.append(new)
        i += 2
    else:
        out.append(ids[i])
        i += 1
return out"""
MERGE |= {
    "T3d": """text = ",".join(map(str, ids))
text = text.replace(",".join(map(str, pair)), str(new))
return [int(i) for i in text.split(",")] if text else []""",
    "T3d'": """text = " ".join(map(str, ids)).replace(f"{pair[0]} {pair[1]}", str(new))
return list(map(int, text.split()))""",
    "T3o": WALK.replace(
        "(ids[i], ids[i + 1]) == pair", "{ids[i], ids[i + 1]} == set(pair)"
    ),
    "T3w": WALK.replace(
        "(ids[i], ids[i + 1]) == pair", "(ids[i] == pair[0] or ids[i + 1] == pair[1])"
    ),
    "T3a": WALK.replace("len(ids):", "len(ids) - 1:").replace(
        "return out", "return out + ids[-1:]"
    ),
}
LEARN = """pieces = [list(p.encode()) for p in GPT2_SPLIT_PATTERN.findall(text)]
merges = {}
for i in range(count):
    counts = Counter(pair for ids in pieces for pair in zip(ids, ids[1:]))
    if not counts: break
    best = min(counts, key=lambda p: (-counts[p], p))
    merges[best] = 256 + i
    pieces = [merge_pair(ids, best, 256 + i) for ids in pieces]
return merges"""
BEST = "min(counts, key=lambda p: (-counts[p], p))"
LEARNED = {
    "T5": LEARN.replace(BEST, "max(counts, key=lambda p: (counts[p], p))"),
    "T5f": LEARN.replace(BEST, "max(counts, key=counts.get)"),
    "T5g": LEARN.replace(BEST, "counts.most_common(1)[0][0]"),
    "T6": LEARN.replace("list(p.encode())", "[ord(c) for c in p]"),
    "T9": LEARN.replace("GPT2_SPLIT_PATTERN.findall(text)", "[text]"),
    "T10": """pieces = [list(p.encode()) for p in GPT2_SPLIT_PATTERN.findall(text)]
counts = Counter(pair for ids in pieces for pair in zip(ids, ids[1:]))
best = sorted(counts, key=lambda p: (-counts[p], p))[:count]
return {pair: 256 + i for i, pair in enumerate(best)}""",
    "T10l": LEARN.replace(
        "pieces = [merge_pair(ids, best, 256 + i) for ids in pieces]",
        "for ids in pieces: ids = merge_pair(ids, best, 256 + i)",
    ),
    "T11": LEARN.replace("256 + i", "257 + i"),
    "T11l": LEARN.replace("256 + i", "255 + i"),
    "T11s": LEARN.replace("256 + i", "256"),
    "T11c": LEARN.replace("merges[best] = 256 + i", "merges[best] = counts[best]"),
    "T11i": LEARN.replace("merges[best] = 256 + i", "merges[256 + i] = best"),
    "T13": LEARN.replace("not counts", "max(counts.values(), default=0) < 2"),
    "T13d": LEARN.replace(
        "GPT2_SPLIT_PATTERN.findall(text)", "set(GPT2_SPLIT_PATTERN.findall(text))"
    ),
    "T13l": LEARN.replace(
        "Counter(pair for ids in pieces for pair in zip(ids, ids[1:]))",
        "count_pairs(pieces[-1])",
    ),
    "T13p": LEARN.replace("merges = {}", "merges, counts = {}, Counter()").replace(
        "counts = Counter(pair", "counts.update(pair"
    ),
    "T13r": LEARN.replace("-counts", "counts"),
    "T9w": LEARN.replace("GPT2_SPLIT_PATTERN.findall(text)", "text.split()"),
    "T8": LEARN.replace("p.encode()", "p.strip().encode()"),
    "T6l": LEARN.replace("findall(text)", "findall(text.lower())"),
}
SPLIT = 'regex.split("(" + "|".join(map(regex.escape, special)) + ")", text)'
PARTS = f"({SPLIT} if special else [text])"
ENCODE = f"""ids = []
for part in {PARTS}:
    if part in special:
        ids.append(special[part])
        continue
    for piece in GPT2_SPLIT_PATTERN.findall(part):
        new = list(piece.encode())
        while present := [p for p in pairwise(new) if p in merges]:
            best = min(present, key=merges.get)
            new = merge_pair(new, best, merges[best])
        ids += new
return ids"""
PASSES = """        while present := [p for p in pairwise(new) if p in merges]:
            best = min(present, key=merges.get)
            new = merge_pair(new, best, merges[best])"""
ENCODED = {
    "T1": ENCODE.replace(
        """best = min(present, key=merges.get)
            new = merge_pair(new, best, merges[best])""",
        """best = present[0]
            i = list(pairwise(new)).index(best)
            new[i:i + 2] = [merges[best]]""",
    ),
    "T1r": ENCODE.replace("min(present, key=merges.get)", "present[0]"),
    "T1l": ENCODE.replace(
        PASSES,
        """        for p in reversed(merges):
            new = merge_pair(new, p, merges[p])""",
    ),
    "T2": ENCODE.replace(
        PASSES,
        """        rest, new = piece.encode(), []
        tokens = [bytes([i]) for i in range(256)]
        for a, b in merges: tokens.append(tokens[a] + tokens[b])
        while rest:
            fits = [i for i, t in enumerate(tokens) if rest.startswith(t)]
            new.append(max(fits, key=lambda i: len(tokens[i])))
            rest = rest[len(tokens[new[-1]]):]""",
    ),
    "T6": ENCODE.replace("list(piece.encode())", "[ord(c) for c in piece]"),
    "T8": ENCODE.replace("piece.encode()", "piece.strip().encode()"),
    "T9": ENCODE.replace("GPT2_SPLIT_PATTERN.findall(part)", "[part]"),
    "T12": ENCODE.replace(PARTS, "[text]").replace("part in special", "False"),
    "T12u": ENCODE.replace("map(regex.escape, special)", "special"),
    "T12g": ENCODE.replace(SPLIT, 'regex.split("|".join(special), text)'),
    "T12l": ENCODE.replace("        ids.append(special[part])\n", ""),
    "T12l'": ENCODE.replace('"(" +', '"" +').replace('+ ")"', '+ ""'),
    "T12e": ENCODE.replace("ids = []", "ids, end = [], []")
    .replace("ids.append(", "end.append(")
    .replace("return ids", "return ids + end"),
    "T12o": ENCODE.replace(PARTS, r'regex.split(r"(<\|endoftext\|>)", text)').replace(
        "part in special", "part == '<|endoftext|>'"
    ),
    "T12n": ENCODE.replace(PARTS, SPLIT),
    "T1m": ENCODE.replace("min(", "max("),
    "T1f": ENCODE.replace(
        "min(present, key=merges.get)", "Counter(present).most_common(1)[0][0]"
    ),
    "T1o": ENCODE.replace("merges[best])", "merges[best])\n            break"),
    "T6l": ENCODE.replace("piece.encode()", "piece.lower().encode()"),
}
DECODE = {
    "T7": "return ''.join(tokens[i].decode('utf-8', 'replace') for i in ids)",
    "T7i": "return ''.join(tokens[i].decode(errors='ignore') for i in ids)",
    "T7s": "return ''.join(tokens[i].decode() for i in ids)",
    "T7e": "return b''.join([tokens[i] for i in ids]).decode()",
    "T8d": "return ' '.join(tokens[i].decode('utf-8', 'replace') for i in ids)",
    "T8": "return b''.join(tokens[i] for i in ids).decode(errors='replace').strip()",
    "T7g": "return b''.join(tokens[i] for i in ids).decode('utf-8', 'ignore')",
    "T7b": "return b''.join(tokens[i] for i in ids).decode(errors='backslashreplace')",
    "T7l": "return ''.join(chr(byte) for i in ids for byte in tokens[i])",
    "T7a": "return b''.join(tokens[i] for i in ids).decode('ascii', 'replace')",
    "T7r": "return str(b''.join(tokens[i] for i in ids))",
}
WRONG = {
    "count_pairs": COUNT,
    "merge_pair": MERGE,
    "train_bpe": LEARNED,
    "encode": ENCODED,
    "decode": DECODE,
}


def through_bytes(ids, pair, new):
    """Merge by replacing text: every id is a letter."""
    text = "".join(map(chr, ids)).replace(chr(pair[0]) + chr(pair[1]), chr(new))
    return [ord(letter) for letter in text]


def by_index(ids, pair, new):
    out = list(ids)
    i = 0
    while i < len(out) - 1:
        if out[i] == pair[0] and out[i + 1] == pair[1]:
            out[i : i + 2] = [new]
        i += 1
    return out


def by_for(ids, pair, new):
    out, skip = [], False
    for i, one in enumerate(ids):
        if skip:
            skip = False
        elif i + 1 < len(ids) and (one, ids[i + 1]) == pair:
            out.append(new)
            skip = True
        else:
            out.append(one)
    return out


def by_iterator(ids, pair, new):
    out = []
    for one in ids:
        if out and out[-1] is not None and (out[-1], one) == pair:
            out[-1] = new
        else:
            out.append(one)
    return out


def recursive(ids, pair, new):
    if len(ids) < 2:
        return list(ids)
    if tuple(ids[:2]) == pair:
        return [new, *recursive(ids[2:], pair, new)]
    return [ids[0], *recursive(ids[1:], pair, new)]


def counted_by_loop(ids):
    counts = {}
    for a, b in zip(ids[:-1], ids[1:], strict=True):
        counts.setdefault((a, b), 0)
        counts[a, b] += 1
    return counts


def split(text, special):
    if not special:
        return [text]
    return re.split("(" + "|".join(map(re.escape, special)) + ")", text)


def encoded_by_rank_loop(text, merges, special):
    ids = []
    for part in split(text, special):
        if part in special:
            ids.append(special[part])
            continue
        for piece in GPT2_SPLIT_PATTERN.findall(part):
            new = list(piece.encode("utf-8"))
            while len(new) > 1:
                rank = {
                    i: merges[pair]
                    for i, pair in enumerate(pairwise(new))
                    if pair in merges
                }
                if not rank:
                    break
                i = min(rank, key=lambda i: (rank[i], i))
                new[i : i + 2] = [rank[i]]
            ids.extend(new)
    return ids


def encoded_in_order(text, merges, special):
    """All merges once each, in the order of learning: the same result."""
    ids = []
    for part in split(text, special):
        if part in special:
            ids += [special[part]]
        else:
            for piece in GPT2_SPLIT_PATTERN.findall(part):
                new = list(piece.encode())
                for pair, i in merges.items():
                    new = merge_pair(new, pair, i)
                ids += new
    return ids


def lesson_learned(text, count):
    from gpt2_lesson.tokenizer import train_bpe

    try:
        return train_bpe(text, count)
    except ValueError:  # fewer are to be had
        return lesson_learned(text, count - 1)


def lesson_encoded(text, merges, special):
    from gpt2_lesson.tokenizer import Vocabulary, merged_bytes

    tokens = merged_bytes(merges) + [b""] * 40
    for name, i in special.items():
        tokens[i] = name.encode()
    return Tokenizer(Vocabulary(tokens, merges, special)).encode(text, special="token")


HONEST = {
    "count_pairs": {
        "counter": lambda ids: Counter(zip(ids, ids[1:], strict=False)),
        "pairwise": lambda ids: Counter(pairwise(ids)),
        "loop": counted_by_loop,
        "dict": lambda ids: {p: list(pairwise(ids)).count(p) for p in pairwise(ids)},
        "sum": lambda ids: dict(sum((Counter([p]) for p in pairwise(ids)), Counter())),
        "indices": lambda ids: Counter(
            (ids[i], ids[i + 1]) for i in range(len(ids) - 1)
        ),
        "most common": lambda ids: dict(Counter(pairwise(ids)).most_common()),
        "reversed": lambda ids: Counter((b, a) for a, b in pairwise(list(ids)[::-1])),
    },
    "merge_pair": {
        "lesson": merge_pair,
        "text": through_bytes,
        "index": by_index,
        "for": by_for,
        "recursive": recursive,
        "tuple": lambda *args: tuple(merge_pair(*args)),
        "solution": checks.merge_pair.solution,
        "unpacked": lambda ids, pair, new: by_for(ids, (pair[0], pair[1]), new),
    },
    "train_bpe": {
        "lesson": lesson_learned,
        "short": LEARN,
        "solution": checks.train_bpe.solution,
        "max": LEARN.replace(
            BEST, "max(counts, key=lambda p: (counts[p], -p[0], -p[1]))"
        ),
        "sorted": LEARN.replace(
            BEST, "sorted(sorted(counts), key=lambda p: -counts[p])[0]"
        ),
        "two steps": LEARN.replace(
            BEST, "min(p for p in counts if counts[p] == max(counts.values()))"
        ),
        "len": LEARN.replace(
            "for i in range(count):", "while len(merges) < count:\n    i = len(merges)"
        ),
        "bytes": LEARN.replace("p.encode()", "bytes(p, 'utf-8')"),
    },
    "encode": {
        "lesson": lesson_encoded,
        "short": ENCODE,
        "rank": encoded_by_rank_loop,
        "order": encoded_in_order,
        "solution": checks.encode.solution,
        "tuple": lambda *args: tuple(encoded_in_order(*args)),
        "iter": ENCODE.replace(
            "GPT2_SPLIT_PATTERN.findall(part)",
            "(m.group() for m in GPT2_SPLIT_PATTERN.finditer(part))",
        ),
        "inf": ENCODE.replace("merges.get)", "lambda p: merges.get(p, 10**9))"),
    },
    "decode": {
        "join": "return b''.join([tokens[i] for i in ids]).decode('utf-8', 'replace')",
        "sum": "return ''.join(tokens[i].decode('latin-1') for i in ids)"
        ".encode('latin-1').decode(errors='replace')",
        "loop": "text = b''\nfor i in ids:\n    text += tokens[i]\n"
        "return str(text, 'utf-8', 'replace')",
        "map": "return b''.join(map(tokens.__getitem__, ids)).decode(errors='replace')",
        "bytearray": "text = bytearray()\nfor i in ids: text.extend(tokens[i])\n"
        "return text.decode('utf-8', errors='replace')",
        "flat": "return bytes(b for i in ids for b in tokens[i]).decode('utf-8', "
        "'replace')",
        "codecs": "return codecs.decode(b''.join(tokens[i] for i in ids),"
        " 'utf-8', 'replace')",
        "io": "out = io.BytesIO()\nfor i in ids: out.write(tokens[i])\n"
        "return out.getvalue().decode('utf-8', 'replace')",
    },
}


class TestCatalogue(Catalogue):
    cases = {name: (WRONG[name], HONEST[name]) for name in WRONG}
    extra = EXTRA


def test_merging_what_was_merged_is_caught() -> None:
    """In a run of equal ids a new id must not be merged again with its neighbour."""
    report = checks.merge_pair(function_of(checks.merge_pair, by_iterator))
    assert report.passed  # 9 never equals a half of its own pair


@pytest.mark.parametrize(
    ("name", "form", "said"),
    [
        (
            "count_pairs",
            "return Counter(pairwise(ids)).most_common()",
            "not a dict but a list",
        ),
        ("train_bpe", LEARN.replace("if not counts: break", "pass"), "crashed on"),
        (
            "train_bpe",
            LEARN.replace("not counts", "max(counts.values(), default=0) < 2"),
            "runs out",
        ),
        ("encode", ENCODE.replace(PARTS, SPLIT), "no special names"),
        ("merge_pair", MERGE["T3d"], "197"),
        ("train_bpe", LEARNED["T6l"], "capitals"),
        ("encode", ENCODED["T6l"], "capitals"),
        ("decode", DECODE["T8"], "spaces"),
        ("encode", ENCODED["T12o"], "other special names"),
    ],
)
def test_what_a_learner_got_away_with(name: str, form: str, said: str) -> None:
    """Each of these was once judged right."""
    report = getattr(checks, name)(function_of(getattr(checks, name), form, EXTRA))
    assert not report.passed and said in str(report)


def test_the_longer_of_two_special_names_is_to_be_found_first() -> None:
    def names(form: str) -> bool:
        report = checks.encode(function_of(checks.encode, form, EXTRA))
        return report.passed and not any(
            "longest first" in one for one in report.remarks
        )

    assert names(checks.encode.solution) and not names(ENCODE)


def test_the_version_to_repair_is_named_when_it_comes_back() -> None:
    report = checks.decode_to_repair(function_of(checks.decode, DECODE["T7s"]))
    assert not report.passed and report.score(3) == 0
    assert checks.decode_to_repair(function_of(checks.decode, DECODE["T7"])).named


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (["aabaaab", ("a", "b"), ("a", "ab")], ""),
        (["baaaba", ["b", "a"], ["a", "a"]], ""),
        (["aaabdaaabac", ("a", "a"), ("a", "b")], "leave 7 tokens, aa ab d aa ab a c"),
        (["a b", ("a", "b"), ("a", "b")], "expected at most 20 letters"),
        (["aab", ("a", "b"), "ab"], "expected two strings"),
        (["aab", ("a", "b")], "expected a list of three"),
    ],
)
def test_merges_better_than_those_of_bpe(value: list, said: str) -> None:
    report = checks.answer("09.6", value)
    assert report.passed == (not said) and said in str(report)


def test_the_hints_of_the_decoder_use_no_names_of_their_own() -> None:
    exercise = checks.decode_to_repair.exercise
    for one in exercise.mistakes:
        *_, where, fix = exercise.hints_for(one)
        assert "data" not in where + fix, (where, fix)
        assert checks.decode(function_of(checks.decode, fix)).passed, fix


@pytest.mark.parametrize("group", ['"("', '""'])
def test_the_first_way_to_split_at_special_names_is_told_its_two_causes(
    group: str,
) -> None:
    form = ENCODED["T12u"].replace(
        PARTS.replace("map(regex.escape, special)", "special"),
        SPLIT.replace("map(regex.escape, special)", "special"),
    )
    form = form.replace('"("', group).replace('")"', group.replace("(", ")"))
    named = checks.encode(function_of(checks.encode, form, EXTRA)).named
    assert "not escaped" in named and "an empty `special`" in named


def test_a_dict_is_shown_and_told_as_a_dict() -> None:
    def report(name: str, form: str):
        return getattr(checks, name)(function_of(getattr(checks, name), form, EXTRA))

    halves = "found = Counter(pairwise(ids))\nreturn {p: found[p] % 3 for p in found}"
    said = str(report("count_pairs", halves))
    assert "expected  {(97, 97): 3}" in said and "the value of (97, 97) is 1" in said
    assert "position" not in said
    said = str(report("count_pairs", "return Counter(pairwise(ids)).most_common()"))
    assert "not a dict but a list" in said and "yours" not in said
    said = str(
        report(
            "train_bpe",
            LEARN.replace("return merges", "return dict(reversed(merges.items()))"),
        )
    )
    assert "in another order" in said and "[[" not in said
    tensor = "ids = __import__('torch').tensor(ids)\n"
    assert not report("count_pairs", tensor + "return Counter(pairwise(ids))").passed
    array = 'ids = __import__("numpy").array(ids)\n'
    assert report("count_pairs", array + "return Counter(pairwise(ids))").passed


def test_an_empty_list_of_the_most_common_is_no_axis() -> None:
    form = LEARN.replace("if not counts: break", "pass").replace(
        BEST, "counts.most_common(1)[0][0]"
    )
    said = str(checks.train_bpe(function_of(checks.train_bpe, form, EXTRA)))
    assert "When no pair is left" in said and "axis" not in said
    said = str(checks.perplexity(lambda batches: [][len(batches)]))
    assert "print its length" in said and "axis" not in said


def test_one_token_is_no_tokens_and_bytes_have_no_article() -> None:
    assert "leave 1 token, ab," in str(
        checks.answer("09.6", ["ab", ("a", "b"), ("a", "b")])
    )
    said = str(checks.decode(lambda ids, tokens: b"".join(tokens[i] for i in ids)))
    assert "it returns bytes, b'" in said and "a bytes" not in said
