"""Lesson 09: byte-pair encoding (catalogue: T)."""

from collections import Counter

import regex
from torch import Generator, randint

from gpt2_lesson.checks.exercise import Answer, EdgeCase, Exercise, Mistake
from gpt2_lesson.checks.fakes.adapters import listed, listed_items, sorted_items
from gpt2_lesson.checks.probing import Probe
from gpt2_lesson.tokenizer import GPT2_SPLIT_PATTERN

# --- the right answers ----------------------------------------------------------------

_COUNT_PAIRS = """\
def count_pairs(ids):
    counts = {}
    for i in range(len(ids) - 1):
        pair = ids[i], ids[i + 1]
        counts[pair] = counts.get(pair, 0) + 1
    return counts"""

_MERGE_PAIR = """\
def merge_pair(ids, pair, new):
    merged, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            merged.append(new)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged"""

_TRAIN_BPE = """\
def train_bpe(text, count):
    pre_tokens = [list(pre_token.encode())
                  for pre_token in GPT2_SPLIT_PATTERN.findall(text)]
    merges = {}
    for new in range(256, 256 + count):
        counts = Counter()
        for ids in pre_tokens:
            counts.update(count_pairs(ids))
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges[best] = new
        pre_tokens = [merge_pair(ids, best, new) for ids in pre_tokens]
    return merges"""

_ENCODE = """\
def encode(text, merges, special):
    names = sorted(special, key=len, reverse=True)               # the longest first
    pattern = "(" + "|".join(map(regex.escape, names)) + ")"
    parts = regex.split(pattern, text) if special else [text]
    result = []
    for part in parts:
        if part in special:
            result.append(special[part])
            continue
        for pre_token in GPT2_SPLIT_PATTERN.findall(part):
            ids = list(pre_token.encode())
            while present := [pair for pair in zip(ids, ids[1:]) if pair in merges]:
                first = min(present, key=merges.get)
                ids = merge_pair(ids, first, merges[first])
            result.extend(ids)
    return result"""

_DECODE = """\
def decode(ids, tokens):
    return b"".join(tokens[i] for i in ids).decode("utf-8", errors="replace")"""

# --- probes ---------------------------------------------------------------------------


def _drawn(g: Generator, letters: str, n: int) -> str:
    chosen = randint(len(letters), (n,), generator=g)
    return "".join(letters[i] for i in chosen.tolist())


def pair_probes(g: Generator) -> list[Probe]:
    """Return lists whose pairs are to be counted."""
    return [Probe("the bytes of aaabdaaabac", (list(b"aaabdaaabac"),), sorted_items),
            Probe("random ids", (randint(3, (40,), generator=g).tolist(),),
                  sorted_items),
            Probe("one id", ([7],), sorted_items), Probe("no id", ([],), sorted_items),
            Probe("aaaa", (list(b"aaaa"),), sorted_items)]


def merge_probes(g: Generator) -> list[Probe]:
    """Return lists, a pair and its new id."""
    return [Probe("the bytes of aaabdaaabac", (list(b"aaabdaaabac"), (97, 97), 256),
                  listed),
            Probe("aaaa", (list(b"aaaa"), (97, 97), 256), listed),
            Probe("random ids", (randint(2, (40,), generator=g).tolist(), (1, 0), 9),
                  listed),
            Probe("random ids, a pair of equal ids",
                  (randint(2, (40,), generator=g).tolist(), (1, 1), 9), listed),
            Probe("ids with the same digits as the pair: 197, 97, 971",
                  ([197, 97, 97, 971, 97, 97], (97, 97), 256), listed),
            Probe("the pair the other way round", ([6, 5, 7, 5, 6], (5, 6), 8), listed),
            Probe("the pair at the end", ([5, 6, 7], (6, 7), 8), listed),
            Probe("no such pair", ([5, 6, 7], (7, 5), 8), listed),
            Probe("no id", ([], (7, 5), 8), listed)]


def learn_probes(g: Generator) -> list[Probe]:
    """Return texts from which merges are learned."""
    return [Probe("aaabdaaabac, 3 merges", ("aaabdaaabac", 3), listed_items),
            Probe("pre-tokens: a. a. a. a.", ("a. a. a. a. b b b", 2), listed_items),
            Probe("letters that are not ASCII", ("é é èé é", 2), listed_items),
            Probe("capitals: Ab ab AB", ("Ab ab AB Ab", 3), listed_items),
            Probe("ties", ("xy ab xy ab cd cd", 4), listed_items),
            Probe("random letters", (_drawn(g, "abc d", 60), 6), listed_items),
            Probe("runs of one letter", ("aaaa aaa aaaaaaa b", 3), listed_items),
            Probe("a text that runs out of pairs", ("ab ab c", 9), listed_items),
            Probe("pairs that occur once", ("xyz", 2), listed_items)]


_MERGES = {(116, 104): 256, (105, 115): 257, (97, 116): 258, (104, 257): 259,
           (97, 97): 260, (32, 97): 261, (32, 256): 262, (46, 32): 263, (98, 99): 264,
           (97, 98): 265, (195, 169): 266, (97, 256): 267}
_SPECIAL = {"<|endoftext|>": 300}
_NAMES = {"<|user|>": 301, "[end]": 302}


def encode_probes(g: Generator) -> list[Probe]:
    """Return texts to be encoded with twelve merges and special tokens."""
    texts = {"abc: bc and at were learned before ab": "abc aab",
             "athis: his is a token": "athis",
             "ath: at occurs first, th was learned first": "ath bath",
             "runs: aaaa": "aaaa aaaaa",
             "spaces: ' a  b '": " a  b ",
             "a. a. th": "a. a. th", "not ASCII": "é🙂",
             "capitals: Th th": "Th th THIS",
             "random letters": _drawn(g, "athisbc. ", 60), "no text": "",
             "a special name": "this<|endoftext|>a"}
    found = [Probe(name, (text, _MERGES, _SPECIAL), listed)
             for name, text in texts.items()]
    return [*found, Probe("no special names", ("athis th", _MERGES, {}), listed),
            Probe("other special names, side by side",
                  ("<|user|>th[end]<|user|> end", _MERGES, _NAMES), listed),
            Probe("a special name of one letter: <|a|>",
                  ("<|a|> ath<|a|>", _MERGES, {"<|a|>": 303}), listed)]


def _names_inside(g: Generator) -> Probe:
    return Probe("a special name inside a longer one", (
        "a<x>b<x>y", _MERGES, {"<x>": 300, "<x>y": 301}), listed)


def decode_probes(g: Generator) -> list[Probe]:
    """Return ids to be decoded; some tokens end within a character."""
    tokens = [bytes([i]) for i in range(256)] + [b"th", "🙂".encode()[:2],
                                                  "🙂".encode()[2:], b" a"]
    return [Probe("ASCII", ([*b"o", 256, 259], tokens)),
            Probe("an emoji over two tokens", ([104, 257, 258, 33], tokens)),
            Probe("é as two bytes", ([195, 169, 98], tokens)),
            Probe("half of an emoji, which is not a character", ([97, 257], tokens)),
            Probe("spaces at both ends", ([32, 259, 32], tokens)),
            Probe("random letters", ([*_drawn(g, "abc ", 20).encode()], tokens)),
            Probe("no id", ([], tokens))]


# --- mistakes -------------------------------------------------------------------------

_Q_ORDER = "May a merge turn ba into the token of ab?"
_Q_RANGE = "For 3 ids, which values must i have?"
_Q_USED = "Both ids of the pair are used up. At which id do you go on?"
_Q_TIE = "Two pairs have the same count. Which one should win?"
_Q_BYTES = "How many bytes does é take?"
_Q_ACROSS = "May a merge join the end of a word to the next one?"
_Q_RANK = "Two merges fit. Which of them was learned first?"
_Q_BACK = "Can you get the text back from your ids?"
_Q_HALF = "Is half of an emoji a text?"

PAIRS = (
    Mistake("T4", "pairs that overlap counted once: aaaa has two aa, not three",
            edit=[("counts = {}", "counts, i = {}, 0"),
                  ("for i in range(len(ids) - 1):", "while i < len(ids) - 1:"),
                  ("+ 1\n",
                   "+ 1\n        i += 2 if ids[i:i + 2] == ids[i + 1:i + 3] else 1\n")],
            why="runs of one character are counted too low",
            question="At how many positions does aa begin in aaaa?",
            where="look at the step of your loop",
            fix="zip(ids, ids[1:]) sees every pair"),
    Mistake("T4s", "only every second position counted",
            edit=("len(ids) - 1)", "0, len(ids) - 1, 2)"),
            why="about half of the pairs are missing",
            question="Does a pair begin at position 1, too?"),
    Mistake("T4o", "pairs counted without their order: (a, b) and (b, a) as one",
            edit=("ids[i], ids[i + 1]", "tuple(sorted(ids[i:i + 2]))"),
            why="ab and ba share a count", question=_Q_ORDER),
    Mistake("T4l", "the last pair is never counted (range(len(ids) - 2))",
            edit=("- 1)", "- 2)"),
            why="the pair at the end of the list is missing", question=_Q_RANGE),
    Mistake("T4f", "the first pair is never counted (range(1, ...))",
            edit=("range(len", "range(1, len"),
            why="the pair at the beginning of the list is missing", question=_Q_RANGE),
    Mistake("T4p", "every count is 1 too large", edit=("pair, 0", "pair, 1"),
            why="a pair that occurs once gets the count 2",
            question="What is the count of a pair before it has been seen?"),
    Mistake("T4m", "every count is 1 too small: the first occurrence counts 0",
            edit=("pair, 0", "pair, -1"),
            why="a pair that occurs once gets the count 0",
            question="What should the count be after a pair was seen once?"),
    Mistake("T4c", "every pair counted once, however often it occurs",
            edit=("counts.get(pair, 0) + 1", "1"), why="all counts are 1",
            question="What happens when a pair occurs a second time?"),
    Mistake("T4i", "single ids counted, not pairs",
            edit=[("range(len(ids) - 1)", "range(len(ids))"),
                  ("ids[i], ids[i + 1]", "ids[i]")],
            why="the keys are ids, not pairs",
            question="What is a key of the result: (a, b), or a?"),
    Mistake("T4b", "pairs counted backwards: (b, a) where a comes before b",
            edit=("ids[i], ids[i + 1]", "ids[i + 1], ids[i]"),
            why="each key has its two ids exchanged",
            question="Which id of the pair comes first?"),
    Mistake("T4r", "the last id paired with the first (ids[i - 1] at i = 0)",
            edit=[("range(len(ids) - 1)", "range(len(ids))"),
                  ("ids[i], ids[i + 1]", "ids[i - 1], ids[i]")],
            why="the list becomes a ring: ids[-1] is the last id",
            question="Which id comes before the first one?"),
    Mistake("T4t", "the last id counted as a pair of its own",
            edit=[("range(len(ids) - 1)", "range(len(ids))"),
                  ("ids[i], ids[i + 1]", "tuple(ids[i:i + 2])")],
            why="one key has only one id",
            question="How many ids follow the last one?"),
)

_DIGITS = """\
def merge_pair(ids, pair, new):
    digits = ",".join(map(str, ids)).replace(",".join(map(str, pair)), str(new))
    return [int(number) for number in digits.split(",") if number]"""

MERGE = (
    Mistake("T3", "one step after a merge, not two: a used id is used again",
            edit=("i += 2", "i += 1"),
            why="aaaa becomes four ids, not two", question=_Q_USED),
    Mistake("T3b", "merged from the right",
            edit=[("merged, i = [], 0",
                   "ids, pair = ids[::-1], pair[::-1]\n    merged, i = [], 0"),
                  ("return merged", "return merged[::-1]")],
            why="aaa becomes a, aa and not aa, a",
            question="Which aa of aaa comes first?",
            where="look at the direction of the loop", fix="go from the left"),
    Mistake("T3f", "only the first occurrence merged",
            edit=("== pair:", "== pair and new not in merged:"),
            why="later pairs stay", question="How often does the pair occur?"),
    Mistake("T3e", "the last id is lost",
            edit=("while i < len(ids):", "while i < len(ids) - 1:"),
            why="the result ends one id too early",
            question="What happens to an id that has no right neighbour?"),
    Mistake("T3n", "nothing is ever merged",
            edit=("(ids[i], ids[i + 1]) == pair", "ids[i:i + 2] == pair"),
            why="the ids come back as they were",
            question="Is [5, 6] == (5, 6) in Python?"),
    Mistake("T3i", "its input list is changed",
            edit=("return merged", "ids[:] = merged\n    return ids"),
            why="the caller's list is not the same",
            question="Who else may still need ids?"),
    Mistake("T3d", "digits replaced, not ids: the list is turned into a string",
            source=_DIGITS,
            why="197, 97 contains the characters 97,97, but not the ids 97, 97",
            question="Does the string 197,97 contain 97,97?",
            where="look for join and replace", fix="compare the ids themselves"),
    Mistake("T3o", "merged in either order: (b, a) as well as (a, b)",
            edit=("(ids[i], ids[i + 1]) == pair",
                  "sorted(ids[i:i + 2]) == sorted(pair)"),
            why="the pair the other way round is replaced, too", question=_Q_ORDER),
    Mistake("T3w", "one id of the pair is enough",
            edit=("(ids[i], ids[i + 1]) == pair",
                  "(ids[i] == pair[0] or ids[i + 1] == pair[1])"),
            why="pairs that agree in one id only are replaced, too",
            question="What must be true of both ids?"),
    Mistake("T3a", "the last id is written again after a merge at the end",
            edit=[("while i < len(ids):", "while i < len(ids) - 1:"),
                  ("return merged", "return merged + ids[-1:]")],
            why="a list that ends in the pair gets one id too many",
            question="Was the last id used up by the merge?",
            where="look at what follows the loop",
            fix="append the last id only if i has not passed it"),
)

LEARN = (
    Mistake("T4", "pairs that overlap counted once",
            edit=("count_pairs(ids)", "count_apart(ids)"),
            why="runs of one character are counted too low",
            question="At how many positions does aa begin in aaaa?",
            where="look at the counting"),
    Mistake("T5", "ties go to the larger pair",
            edit=("min(counts, key=lambda pair: (-counts[pair], pair))",
                  "max(counts, key=lambda pair: (counts[pair], pair))"),
            why="of two pairs with the same count, yours takes the other one",
            question=_Q_TIE),
    Mistake("T5f", "ties go to the pair seen first",
            edit=("min(counts, key=lambda pair: (-counts[pair], pair))",
                  "max(counts, key=counts.get)"),
            why="of two pairs with the same count, yours takes the other one",
            question=_Q_TIE),
    Mistake("T6", "characters, not UTF-8 bytes",
            edit=("list(pre_token.encode())", "[ord(c) for c in pre_token]"),
            why="é is one id, and it is two bytes", question=_Q_BYTES),
    Mistake("T9", "not split into pre-tokens first",
            edit=("GPT2_SPLIT_PATTERN.findall(text)", "[text]"),
            why="merges are learned across spaces", question=_Q_ACROSS),
    Mistake("T10", "the counts of the first round: pairs are not counted again after a "
                   "merge",
            edit=[("counts.update(count_pairs(ids))",
                   "counts.update(pair for pair in zip(ids, ids[1:]) if pair not in "
                   "merges)"),
                  ("        pre_tokens = [merge_pair(ids, best, new) "
                   "for ids in pre_tokens]\n",
                   "")],
            why="the second merge ignores the token that the first one made",
            question="After aa became 256, does the pair aa still occur?",
            where="is the counting inside the loop, and over the merged ids?",
            fix="count again in each round"),
    Mistake("T10l", "the merged lists are thrown away: every round sees the old ids",
            edit=("pre_tokens = [merge_pair(ids, best, new) for ids in pre_tokens]",
                  "for ids in pre_tokens:\n"
                  "            ids = merge_pair(ids, best, new)"),
            why="the same pair wins each round, so one merge is left",
            question="`ids = merge_pair(...)` gives a name to a new list. What is in "
                 "`pre_tokens`?"),
    Mistake("T11", "the first new id is 257, not 256",
            edit=("range(256, 256", "range(257, 257"),
            why="every new id is one too large",
            question="The bytes are 0 to 255. Which number is free?"),
    Mistake("T11l", "the first new id is 255, which is a byte",
            edit=("range(256, 256", "range(255, 255"),
            why="every new id is one too small",
            question="The bytes are 0 to 255. Which is free?"),
    Mistake("T11s", "every merge gets the same id",
            edit=("        merges[best]", "        new = 256\n        merges[best]"),
            why="the new id never grows",
            question="Which number is free after the first merge?"),
    Mistake("T11c", "the counts returned, not the new ids",
            edit=("= new\n", "= counts[best]\n"),
            why="the values are how often each pair occurred",
            question="What does the result map a pair to?"),
    Mistake("T11i", "the dict upside down: from new id to pair",
            edit=("merges[best] = new", "merges[new] = best"),
            why="keys and values are exchanged",
            question="What does the result map to what?"),
    Mistake("T13", "stops when no pair occurs twice",
            edit=("not counts", "max(counts.values(), default=0) < 2"),
            why="it returns fewer merges than asked for, though pairs are left",
            question="When is no pair left?"),
    Mistake("T13d", "each different pre-token counted once (a set)",
            edit=("GPT2_SPLIT_PATTERN.findall(text)",
                  "dict.fromkeys(GPT2_SPLIT_PATTERN.findall(text))"),
            why="frequent words weigh no more than rare ones",
            question="How often should a pre-token that occurs ten times count?"),
    Mistake("T13l", "only the last pre-token is counted",
            edit=("counts.update(count_pairs(ids))",
                  "counts = Counter(count_pairs(ids))"),
            why="the pairs of all other pre-tokens are missing",
            question="Whose pairs are in `counts`?"),
    Mistake("T13p", "the counts add up: not emptied for each merge",
            edit=[("merges = {}", "merges, counts = {}, Counter()"),
                  ("        counts = Counter()\n", "")],
            why="pairs of earlier rounds are counted again",
            question="What should the counts be at the start of a round?"),
    Mistake("T13r", "the rarest pair, not the most frequent",
            edit=("-counts", "counts"),
            why="pairs that occur once come first",
            question="Which pair saves most?"),
    Mistake("T9w", "cut with text.split(), not with GPT2_SPLIT_PATTERN",
            edit=("GPT2_SPLIT_PATTERN.findall(text)", "text.split()"),
            why="the spaces are lost, and punctuation stays with its word",
            question="Where do the spaces of the text go?"),
    Mistake("T8", "spaces at the ends of pre-tokens are lost",
            edit=("pre_token.encode()", "pre_token.strip().encode()"),
            why="no merge contains a space",
            question="Can a token begin with a space?"),
    Mistake("T6l", "capitals turned into lower case",
            edit=("pre_token.encode()", "pre_token.lower().encode()"),
            why="A and a are different bytes", question="What is the byte of A?"),
)

_MERGE_BY_RANK = """\
            while present := [pair for pair in zip(ids, ids[1:]) if pair in merges]:
                first = min(present, key=merges.get)
                ids = merge_pair(ids, first, merges[first])"""
_LONGEST_TOKEN = """\
            tokens = [bytes([i]) for i in range(256)]
            for a, b in merges:
                tokens.append(tokens[a] + tokens[b])
            rest, ids = bytes(ids), []
            while rest:
                fits = [i for i, token in enumerate(tokens) if rest.startswith(token)]
                ids.append(max(fits, key=lambda i: len(tokens[i])))
                rest = rest[len(tokens[ids[-1]]):]"""

ENCODE = (
    Mistake("T1", "merged from left to right, not in the order of learning",
            edit=("min(present, key=merges.get)", "present[0]"),
            why="abc becomes ab, c where bc was learned first", question=_Q_RANK),
    Mistake("T1l", "merges done once each, the last learned first",
            edit=("while present := [pair for pair in zip(ids, ids[1:]) if pair in "
                  "merges]:\n"
                  "                first = min(present, key=merges.get)\n",
                  "for first in reversed(merges):\n"),
            why="late merges need tokens that are not made yet", question=_Q_RANK),
    Mistake("T2", "the longest token that fits, not the merges",
            edit=(_MERGE_BY_RANK, _LONGEST_TOKEN),
            why="abc becomes ab, c, though bc was learned before ab",
            question="Was the model trained on that spelling?",
            where="are merges done, or tokens looked up?"),
    Mistake("T3", "one step after a merge, not two",
            edit=("merge_pair(", "merge_again("),
            why="aaaa becomes four ids, not two", question=_Q_USED,
            where="look at how i grows after a merge"),
    Mistake("T6", "characters, not UTF-8 bytes",
            edit=("list(pre_token.encode())", "[ord(c) for c in pre_token]"),
            why="é is one id of 233, not two", question=_Q_BYTES),
    Mistake("T8", "spaces at the ends of pre-tokens are lost",
            edit=("pre_token.encode()", "pre_token.strip().encode()"),
            why="a and a with a space before it get the same id", question=_Q_BACK),
    Mistake("T9", "not split into pre-tokens first",
            edit=("GPT2_SPLIT_PATTERN.findall(part)", "[part]"),
            why="merges reach across pre-tokens", question=_Q_ACROSS),
    Mistake("T12", "special names split as ordinary text",
            edit=("regex.split(pattern, text)", "[text]"),
            why="<|endoftext|> becomes many ids, not one",
            question="How should the model tell the end of a text from a text about "
                     "it?"),
    Mistake("T12u", "special names joined with | but not escaped",
            edit=("map(regex.escape, names)", "names"),
            why="in a regex | means or: <|endoftext|> matches <, endoftext or >",
            question="What does the pattern a|b match? And what does regex.escape do?",
            fix='"|".join(map(regex.escape, special))'),
    Mistake("T12g", "special names not escaped, and the pattern has no group",
            edit=('"(" + "|".join(map(regex.escape, names)) + ")"', '"|".join(names)'),
            why="in a regex | means or, and split returns what matched for groups only",
            question="What does the pattern a|b match? And what does regex.escape do?",
            fix='"(" + "|".join(map(regex.escape, special)) + ")"'),
    Mistake("T12l", "special names are left out",
            edit=("            result.append(special[part])\n", ""),
            why="the name is gone from the text, and its id is missing",
            question="Which parts does regex.split return without a group?",
            where="look at the parentheses of the pattern, and at `continue`"),
    Mistake("T12e", "special names come at the end, not where they occur",
            edit=[("result = []", "result, end = [], []"),
                  ("result.append(", "end.append("),
                  ("return result", "return result + end")],
            why="the ids of special names follow all others",
            question="At which position does the model need to see the end of a text?",
            where="which list do they go into?", fix="append to the one list"),
    Mistake("T12o", "only <|endoftext|> is known, whatever is in `special`",
            edit=("sorted(special, key=len, reverse=True)", '["<|endoftext|>"]'),
            why="other special names are split as ordinary text",
            question="What is `special` for?"),
    Mistake("T12n", "an empty `special` cuts the text between all characters",
            edit=("else [text]", 'else regex.split("()", text)'),
            why="without special names nothing is merged",
            question="What does the pattern () match?"),
    Mistake("T1m", "the merge learned last first", edit=("min(present", "max(present"),
            why="late merges take bytes that earlier ones need", question=_Q_RANK),
    Mistake("T1f", "the most frequent pair of the pre-token first",
            edit=("min(present, key=merges.get)",
                  "Counter(present).most_common(1)[0][0]"),
            why="when encoding, how often a pair occurs doesn't count",
            question=_Q_RANK),
    Mistake("T1o", "one merge for each pre-token, then it stops",
            edit=("while present", "if present"),
            why="pairs that could still be merged are left",
            question="After th, is there another pair in this pre-token?"),
    Mistake("T6l", "capitals turned into lower case",
            edit=("pre_token.encode()", "pre_token.lower().encode()"),
            why="T and t are different bytes", question=_Q_BACK),
)

_DECODED = 'b"".join(tokens[i] for i in ids).decode("utf-8", errors="replace")'
DECODE = (
    Mistake("T7", "each token decoded by itself (with errors='replace')",
            edit=(_DECODED, '"".join(tokens[i].decode(errors="replace") for i in ids)'),
            why="a character whose bytes are in two tokens becomes several �",
            question=_Q_HALF),
    Mistake("T7i", "each token decoded by itself, broken ones left out",
            edit=(_DECODED, '"".join(tokens[i].decode(errors="ignore") for i in ids)'),
            why="a character whose bytes are in two tokens is lost", question=_Q_HALF),
    Mistake("T7s", "each token decoded by itself, and an error for a broken one",
            edit=(_DECODED, '"".join(tokens[i].decode() for i in ids)'),
            why="UnicodeDecodeError at an emoji over two tokens", question=_Q_HALF),
    Mistake("T7e", "no errors='replace': a text that is cut within a character fails",
            edit=(', errors="replace"', ""),
            why="UnicodeDecodeError at half of an emoji",
            question="Can a model stop in the middle of a character?"),
    Mistake("T8d", "a space between the tokens",
            edit=(_DECODED,
                  '" ".join(tokens[i].decode(errors="replace") for i in ids)'),
            why="spaces that no token contains",
            question="Which tokens contain the spaces of a text?"),
    Mistake("T7g", "errors='ignore': bytes that are not a character are dropped",
            edit=("replace", "ignore"), why="half of an emoji leaves no trace",
            question="What should a reader see where something is missing?"),
    Mistake("T7b", "errors='backslashreplace': bytes shown as \\x..",
            edit=("replace", "backslashreplace"),
            why="half of an emoji becomes \\xf0\\x9f",
            question="Which character should show that bytes can't be decoded?"),
    Mistake("T7l", "each byte a character (latin-1, or chr)", edit=("utf-8", "latin-1"),
            why="é becomes two characters",
            question="How many bytes does é take in UTF-8?"),
    Mistake("T7a", "decoded as ASCII, not as UTF-8", edit=("utf-8", "ascii"),
            why="every byte above 127 becomes �",
            question="Which bytes does ASCII know?"),
    Mistake("T7r", "str(...) of the bytes: b'...' and all",
            edit=(_DECODED, 'str(b"".join(tokens[i] for i in ids))'),
            why="the result begins with b'", question="What does str(b'a') give?"),
    Mistake("T8", "spaces at the ends are lost",
            edit=('errors="replace")', 'errors="replace").strip()'),
            why="the text is shorter than its tokens",
            question="Does the task ask for strip?"),
)

# --- exercises ------------------------------------------------------------------------

count_pairs = Exercise(
    "count_pairs", "09", "count_pairs(ids) -> {(id, id): how often}",
    make_probes=pair_probes, mistakes=PAIRS, hints=(
        "A pair begins at each position except the last.", "Print zip(ids, ids[1:]).",
        "Counter(zip(ids, ids[1:]))"),
    crashes=((r"IndexError: list index", "the last id has no right neighbour: a pair "
              "begins at i only for i + 1 < len(ids)"),),
    solution=_COUNT_PAIRS)

merge_pair = Exercise(
    "merge_pair", "09", "merge_pair(ids, pair, new) -> list of ids",
    make_probes=merge_probes, mistakes=MERGE, crashes=((
        r"IndexError: list index", "the last id has no right neighbour: ask for i + 1 "
        "< len(ids) before you read ids[i + 1]"),), hints=(
        "Go through the ids from the left. Where the pair occurs, append the new id "
        "and skip both.",
        "Try aaaa by hand: what is appended, and what is i then?",
        "i += 2 after a merge, i += 1 otherwise"),
    solution=_MERGE_PAIR)

_HELPERS = {
    "GPT2_SPLIT_PATTERN": GPT2_SPLIT_PATTERN, "Counter": Counter, "regex": regex,
    "count_pairs": count_pairs.reference, "merge_pair": merge_pair.reference,
    "count_apart": count_pairs.with_mistakes("T4"),
    "merge_again": merge_pair.with_mistakes("T3")}

train_bpe = Exercise(
    "train_bpe", "09", "train_bpe(text, count) -> {(id, id): new id}",
    make_probes=learn_probes, mistakes=LEARN, crashes=((
        r"(min|max)\(\).*(empty|arg)", "no pair is left: stop early, before min or max "
        "is called"), (
        r"IndexError: list", "a list is empty or too short. When no pair is left, stop "
        "before you ask for the most frequent one")), hints=(
        "A round: count the pairs in all pre-tokens, take the most frequent, merge it.",
        "Print the counts of each round for aaabdaaabac.",
        "min(counts, key=lambda pair: (-counts[pair], pair))"),
    solution=_TRAIN_BPE, names=_HELPERS)

encode = Exercise(
    "encode", "09", "encode(text, merges, special) -> list of ids",
    make_probes=encode_probes, mistakes=ENCODE, edge_cases=(EdgeCase(
        "if one special name begins with another, the longer one should be found "
        "first: sort them by length, longest first, before they are joined with |",
            _names_inside),), hints=(
        "Special names first, then pre-tokens, then in each one the earliest merge.",
        "Encode athis by hand with the four merges of the lesson.",
        "while a pair of merges is present: merge the one with the lowest id"),
    solution=_ENCODE, names=_HELPERS)

decode = Exercise(
    "decode", "09", "decode(ids, tokens) -> text", make_probes=decode_probes,
    mistakes=DECODE,
    hints=("A token is bytes, and a character may need the bytes of two tokens.",
           "What does b'\\xf0\\x9f' decode to?", _DECODED),
    solution=_DECODE)

decode_to_repair = decode.to_repair(
    "decode_to_repair", "T7s",
    "what is decoded: each token by itself, or the bytes of all of them together?",
    _DECODED)

# --- the answers that are values ------------------------------------------------------

# Tokens per word of the three sentences with 300 merges learned from stories, measured.
_TOKENS = {"English": 33 / 14, "German": 43 / 12, "Greek": 139 / 13}
_BY_LETTER = {"English": 33 / 14, "German": 42 / 12, "Greek": 76 / 13}
_LETTERS = Mistake(
    "T6", "characters counted, not UTF-8 bytes", "Greek letters are two bytes each",
    "How many bytes does a Greek letter take?", "look at how the text becomes numbers",
    "list(pre_token.encode())")
_TURNED = Mistake(
    "T8w", "words per token, not tokens per word", "a word has at least one token",
    "Which number is divided by which?", "look at the division",
    "number of tokens / number of words")
_NO_MERGES = Mistake(
    "T8b", "bytes per word: nothing was merged",
    "English takes as many tokens as it has bytes", "Which merges does your text meet?",
    "look for merge_pre_token", "merge_pre_token(list(pre_token.encode()), merges)")
_TOTAL = Mistake(
    "T8t", "tokens of the whole sentence, not per word",
    "the sentences have 14, 12 and 13 words", "Divided by what?",
    "look at the last step", "/ len(sentence.split())")
_BARE = Mistake(
    "T8s", "words encoded without the space before them",
    "a pre-token of GPT-2 begins with its space",
    "What does GPT2_SPLIT_PATTERN.findall return?",
    "look for split where the pre-tokens are made",
    "GPT2_SPLIT_PATTERN.findall(sentence)")

_CHARACTERS, _BYTES = "characters", "byte tokens"
_TEXT_WRONG = tuple(
    ({key: value}, Mistake(
        id, name, why, "How many characters are there, and how many bytes does each "
                       "take?",
        "write the bytes under each character",
        "5 characters of one byte, ï two, 🙂 four"))
    for id, key, value, name, why in (
        ("T13", _CHARACTERS, 6, "the space not counted", "a space is a character"),
        ("T14", _CHARACTERS, 5, "only the letters counted",
         "the space and the emoji are characters, too"),
        ("T15", _CHARACTERS, 11, "bytes, where characters are asked for",
         "len(text) counts characters"),
        ("T16", _BYTES, 7, "one byte for each character",
         "a byte has 256 values, and there are more characters"),
        ("T17", _BYTES, 8, "one byte for the emoji", "🙂 takes four bytes"),
        ("T18", _BYTES, 9, "two bytes for the emoji", "🙂 takes four bytes"),
        ("T19", _BYTES, 10, "one byte too few: for the ï, the space or the emoji",
         "ï takes two bytes, the space one and the emoji four"),
        ("T20", _BYTES, 14, "two bytes for each character",
         "ASCII takes one byte in UTF-8"),
        ("T21", _BYTES, 28, "four bytes for each character",
         "ASCII takes one byte in UTF-8")))


def _greedy_merges_lose(value: object) -> list[str]:
    """Return why two merges are not better for their text than those of BPE, if so."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        return ["expected a list of three: [text, first, second]"]
    text, *own = value
    if not isinstance(text, str) or not regex.fullmatch("[a-z]{1,20}", text):
        return [f"the text is {text!r}, expected at most 20 letters from a to z"]
    tokens = list(text)
    for pair in own:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(
                isinstance(half, str) and half for half in pair):
            return [f"a merge is {pair!r}, expected two strings such as ('a', 'b')"]
        tokens = merge_pair.reference(tokens, tuple(pair), "".join(pair))
    ids = list(text.encode())
    for pair, new in train_bpe.reference(text, 2).items():
        ids = merge_pair.reference(ids, pair, new)
    if len(tokens) < len(ids):
        return []
    many = f"{len(tokens)} token{'s' * (len(tokens) != 1)}"
    return [f"your merges leave {many}, {' '.join(tokens)}, and those of BPE leave "
            f"{len(ids)}: yours must leave fewer than those of BPE"]


ANSWERS = (
    Answer("09.1", "the number of characters and of byte tokens of 'naïve 🙂'",
           {_CHARACTERS: 7, _BYTES: 11}, wrong=_TEXT_WRONG, predict=True,
           hints=("The characters of ASCII, and the space, take one byte. How many "
                  "does an emoji take?",
                  "One byte has 256 values, and there are more characters than that. "
                  "And ï?",
                  "n, a, v, e and the space take one byte each, ï two, 🙂 four."),
           solution='predicted = {"characters": 7, "byte tokens": 11}'),
    Answer("09.5", "tokens per word in three languages", _TOKENS, rtol=0.01,
           precision="two decimals are",
           wrong=((_BY_LETTER, _LETTERS),
                  ({key: 1 / value for key, value in _TOKENS.items()}, _TURNED),
                  ({"English": 64 / 14, "German": 62 / 12, "Greek": 139 / 13},
                   _NO_MERGES),
                  ({"English": 33, "German": 43, "Greek": 139}, _TOTAL),
                  ({"English": 37 / 14, "German": 41 / 12, "Greek": 127 / 13}, _BARE)),
           hints=("GPT2_SPLIT_PATTERN.findall(sentence), then the bytes of each "
                  "pre-token, then merge_pre_token. Add up the lengths.",
                  "A Greek letter has two bytes, and none of the 300 merges was "
                  "learned from Greek. So how many tokens does a Greek letter take?",
                  "sum of the lengths / len(sentence.split())"),
           solution="""\
def tokens_per_word(sentence):
    ids = [merge_pre_token(list(pre_token.encode()), merges)
           for pre_token in GPT2_SPLIT_PATTERN.findall(sentence)]
    return sum(map(len, ids)) / len(sentence.split())"""),
    Answer("09.6", "a text and two merges that shorten it more than the two of BPE",
           ["aabaaab", ("a", "b"), ("a", "ab")], test=_greedy_merges_lose, hints=(
               "Which pair does BPE count too often? Compare how often aa occurs in "
               "aaa with how often it can be merged.",
               "Let the most frequent pair use up a letter that a better pair needs.",
               "aa is the most frequent pair of aabaaab. Try ab first."),
           solution='better = ["aabaaab", ("a", "b"), ("a", "ab")]'),
)
