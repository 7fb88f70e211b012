"""Byte-pair encoding, and what goes wrong with it (catalogue: T)."""

from collections import Counter
from itertools import pairwise

import regex
from torch import Generator, randint

from gpt2_lesson.checks.engine import Exercise, Mistake, Robust
from gpt2_lesson.checks.probing import Probe
from gpt2_lesson.checks.stand_ins.drives import listed, listed_items, sorted_items
from gpt2_lesson.tokenizer import PIECES

Merges = dict[tuple[int, int], int]


def pairs(ids: list[int], *, overlap: bool = True, order: bool = True, step: int = 1,
          places: slice = slice(None), start: int = 0, counts: str = "places") -> dict:
    """Return how often each pair of neighbours stands in `ids`."""
    if counts == "ids":
        return dict(Counter(ids))
    if overlap:
        found = list(pairwise(ids))[::step]
    else:
        found, i = [], 0
        while i + 1 < len(ids):
            found.append((ids[i], ids[i + 1]))
            i += 2 if ids[i:i + 2] == ids[i + 1:i + 3] else 1
    found = [pair if order else tuple(sorted(pair)) for pair in found[places]]
    if counts == "backwards":
        found = [pair[::-1] for pair in found]
    if counts == "round":
        found += zip(ids[-1:], ids[:1], strict=True)
    if counts == "a lone id":
        found += zip(ids[-1:], strict=True)
    return {pair: 1 if counts == "present" else start + n
            for pair, n in Counter(found).items()}


def merged(ids: list[int], pair: tuple[int, int], new: int, *, step: int = 2,
           backwards: bool = False, once: bool = False, tail: bool = True,
           in_place: bool = False, never: bool = False, match: str = "both",
           last: str = "once") -> list[int]:
    """Return `ids` with each `pair` replaced by `new`, from the left."""
    if never:
        return list(ids)
    if match == "digits":
        written = ",".join(map(str, ids)).replace(",".join(map(str, pair)), str(new))
        return [int(number) for number in written.split(",") if number]
    if backwards:
        turned = merged(list(ids)[::-1], tuple(pair)[::-1], new)
        return turned[::-1]
    out, i, done = [], 0, False
    end = len(ids) if tail else len(ids) - 1
    while i < end:
        here = tuple(ids[i:i + 2])
        found = {"both": here == tuple(pair), "any order": sorted(here) == sorted(pair),
                 "one": len(here) == 2 and (here[0] == pair[0] or here[1] == pair[1])
                 }[match] and not (once and done)
        out.append(new if found else ids[i])
        done = done or found
        i += step if found else 1
    if last == "again" and tuple(ids[i - 2:i]) == tuple(pair) and out[-1] == new:
        out.append(ids[-1])                              # its end is written once more
    if in_place:
        ids[:] = out
    return out


def learned(text: str, count: int, *, cut: bool = True, tie: str = "smaller",
            stale: bool = False, first: int = 256, unit: str = "bytes",
            overlap: bool = True, lost: bool = False, least: int = 1,
            pieces: str = "all", rarest: bool = False, piled: bool = False,
            values: str = "ids") -> Merges:
    """Return `count` merges of the most frequent pair, the smaller one in a tie."""
    parts = PIECES.findall(text) if cut else [text]
    if pieces == "different":
        parts = list(dict.fromkeys(parts))
    if pieces in ("words", "stripped"):
        parts = text.split() if pieces == "words" else [part.strip() for part in parts]
    if pieces == "lower":
        parts = [part.lower() for part in parts]
    parts = [[ord(c) for c in part] if unit == "letters" else list(part.encode())
             for part in parts]
    merges: Merges = {}
    frozen, pile = _counted(parts, overlap), Counter()
    for new in range(first, first + count):
        counts = frozen if stale else _counted(
            parts[-1:] if pieces == "last" else parts, overlap)
        if piled:
            pile.update(counts)
            counts = dict(pile)
        elif not lost:
            counts = {pair: n for pair, n in counts.items() if pair not in merges}
        if not counts or max(counts.values()) < least:
            break
        most = min(counts.values()) if rarest else max(counts.values())
        ties = [pair for pair, n in counts.items() if n == most]
        best = {"smaller": min, "larger": max, "first": lambda ties: ties[0]}[tie](ties)
        merges[best] = {"ids": new, "first": first, "counts": counts[best],
                        "pairs": new}[values]
        parts = parts if lost else [
            merged(ids, best, first if values == "first" else new) for ids in parts]
    return {new: pair for pair, new in merges.items()} if values == "pairs" else merges


def _counted(parts: list[list[int]], overlap: bool) -> Counter:
    return sum((Counter(pairs(ids, overlap=overlap)) for ids in parts), Counter())


def encoded(text: str, merges: Merges, special: dict[str, int], *, order: str = "rank",
            unit: str = "bytes", strip: bool = False, cut: bool = True, step: int = 2,
            names: bool = True, special_ids: str = "in place", empty: str = "right",
            lower: bool = False) -> list[int]:
    """Return token ids: special names whole, else each piece merged by rank."""
    known = sorted(special, key=len, reverse=True)               # <a> before <
    if special_ids == "one":
        known = [name for name in known if name == "<|endoftext|>"]
    split = f"({'|'.join(map(regex.escape, known))})" if known and names else "(?!)"
    if not special and empty == "no pattern":
        split = "()"                                 # matches between all characters
    ids, end = [], []
    for part in regex.split(split, text):
        if names and part in special:
            {"in place": ids, "one": ids, "at the end": end, "lost": []}[
                special_ids].append(special[part])
            continue
        for piece in PIECES.findall(part or "") if cut else [part]:
            piece = piece.strip() if strip else piece
            piece = piece.lower() if lower else piece
            start = ([ord(c) for c in piece] if unit == "letters"
                     else list(piece.encode()))
            ids += _joined(start, merges, order, step)
    return ids + end


def _joined(ids: list[int], merges: Merges, order: str, step: int) -> list[int]:
    """Return ids merged: lowest rank first, or in one of the wrong orders."""
    if order == "longest":
        return _longest(bytes(i for i in ids if i < 256), merges)
    if order == "once":
        for pair, new in reversed(merges.items()):
            ids = merged(ids, pair, new, step=step)
        return ids
    while present := [pair for pair in pairwise(ids) if pair in merges]:
        best = {"rank": min(present, key=merges.get), "left": present[0],
                "last": max(present, key=merges.get), "first only": min(
                    present, key=merges.get),
                "frequent": Counter(present).most_common(1)[0][0]}[order]
        ids = merged(ids, best, merges[best], step=step)
        if order == "first only":
            break
    return ids


def _longest(text: bytes, merges: Merges) -> list[int]:
    names = {i: bytes([i]) for i in range(256)}
    for (a, b), new in merges.items():
        names[new] = names[a] + names[b]
    ids = []
    while text:
        ids.append(max((i for i in names if text.startswith(names[i])),
                       key=lambda i: len(names[i])))
        text = text[len(names[ids[-1]]):]
    return ids


def decoded(ids: list[int], tokens: list[bytes], *, each: str = "",
            errors: str = "replace", between: str = "", code: str = "utf-8",
            strip: bool = False, shown: bool = False) -> str:
    """Return the text of token ids: all bytes side by side, then UTF-8."""
    if each:
        return "".join(tokens[i].decode("utf-8", each) for i in ids)
    if between:
        return between.join(tokens[i].decode("utf-8", "replace") for i in ids)
    whole = b"".join(tokens[i] for i in ids)
    text = str(whole) if shown else whole.decode(code, errors)
    return text.strip() if strip else text


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
            Probe("random ids, a pair of equals",
                  (randint(2, (40,), generator=g).tolist(), (1, 1), 9), listed),
            Probe("ids that share digits with the pair: 197, 97, 971",
                  ([197, 97, 97, 971, 97, 97], (97, 97), 256), listed),
            Probe("the pair the other way round", ([6, 5, 7, 5, 6], (5, 6), 8), listed),
            Probe("the pair at the end", ([5, 6, 7], (6, 7), 8), listed),
            Probe("no such pair", ([5, 6, 7], (7, 5), 8), listed),
            Probe("no id", ([], (7, 5), 8), listed)]


def learn_probes(g: Generator) -> list[Probe]:
    """Return texts to learn merges from."""
    return [Probe("aaabdaaabac, 3 merges", ("aaabdaaabac", 3), listed_items),
            Probe("pieces: a. a. a. a.", ("a. a. a. a. b b b", 2), listed_items),
            Probe("letters beyond ASCII", ("é é èé é", 2), listed_items),
            Probe("capitals: Ab ab AB", ("Ab ab AB Ab", 3), listed_items),
            Probe("ties", ("xy ab xy ab cd cd", 4), listed_items),
            Probe("random letters", (_drawn(g, "abc d", 60), 6), listed_items),
            Probe("runs of one letter", ("aaaa aaa aaaaaaa b", 3), listed_items),
            Probe("a text that runs out of pairs", ("ab ab c", 9), listed_items),
            Probe("pairs that stand there once", ("xyz", 2), listed_items)]


_MERGES = {(116, 104): 256, (105, 115): 257, (97, 116): 258, (104, 257): 259,
           (97, 97): 260, (32, 97): 261, (32, 256): 262, (46, 32): 263, (98, 99): 264,
           (97, 98): 265, (195, 169): 266, (97, 256): 267}
_SPECIAL = {"<|endoftext|>": 300}
_NAMES = {"<|user|>": 301, "[end]": 302}


def encode_probes(g: Generator) -> list[Probe]:
    """Return texts to be encoded with eleven merges and one special name."""
    texts = {"abc: bc and at were learned before ab": "abc aab",
             "athis: his is a token": "athis",
             "ath: at stands first, th was learned first": "ath bath",
             "runs: aaaa": "aaaa aaaaa",
             "spaces: ' a  b '": " a  b ",
             "a. a. th": "a. a. th", "beyond ASCII": "é🙂",
             "capitals: Th th": "Th th THIS",
             "random letters": _drawn(g, "athisbc. ", 60), "no text": "",
             "a special name": "this<|endoftext|>a"}
    found = [Probe(name, (text, _MERGES, _SPECIAL), listed)
             for name, text in texts.items()]
    return [*found, Probe("no special names", ("athis th", _MERGES, {}), listed),
            Probe("other special names, side by side",
                  ("<|user|>th[end]<|user|> end", _MERGES, _NAMES), listed)]


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
            Probe("half of an emoji, which has no letter", ([97, 257], tokens)),
            Probe("spaces at both ends", ([32, 259, 32], tokens)),
            Probe("random letters", ([*_drawn(g, "abc ", 20).encode()], tokens)),
            Probe("no id", ([], tokens))]


# --- mistakes -------------------------------------------------------------------------

_RANK = "Two merges fit. Which of them was learned first?"

PAIRS = (
    Mistake("T4", "pairs that overlap counted once: aaaa has two aa, not three",
            "runs of one letter are counted too low",
            "At how many places does aa begin in aaaa?",
            "look at the step of your loop", "zip(ids, ids[1:]) sees every place",
            {"overlap": False}, mark="S"),
    Mistake("T4s", "only every second place looked at", "about half of the pairs are "
            "missing", "Does a pair begin at place 1, too?", "look at the step",
            "each place but the last begins a pair", {"step": 2}, mark="R"),
    Mistake("T4o", "pairs counted without their order: (a, b) and (b, a) as one",
            "ab and ba share a count", "May a merge turn ba into the token of ab?",
            "look for sorted, set or frozenset", "the pair is a tuple in its order",
            {"order": False}, mark="R"),
    Mistake("T4l", "the last pair is never counted (range(len(ids) - 2))",
            "the pair at the end of the list is missing",
            "For 3 ids, which values must i take?", "look at the end of the loop",
            "range(len(ids) - 1)", {"places": slice(None, -1)}),
    Mistake("T4f", "the first pair is never counted (range(1, ...))",
            "the pair at the beginning of the list is missing",
            "For 3 ids, which values must i take?", "look at the start of the loop",
            "range(len(ids) - 1)", {"places": slice(1, None)}),
    Mistake("T4p", "every count is 1 too large",
            "a pair that occurs once gets the count 2",
            "What is the count of a pair before it has been seen?",
            "look at the default of get", "counts.get(pair, 0) + 1", {"start": 1}),
    Mistake("T4m", "every count is 1 too small: the first occurrence counts 0",
            "a pair that occurs once gets the count 0",
            "What should the count be after a pair was seen once?",
            "look at the line that adds a new pair", "counts.get(pair, 0) + 1",
            {"start": -1}),
    Mistake("T4c", "every pair counted once, however often it occurs",
            "all counts are 1", "What happens when a pair comes the second time?",
            "look for = 1, or for a set", "counts[pair] = counts.get(pair, 0) + 1",
            {"counts": "present"}),
    Mistake("T4i", "single ids counted, not pairs", "the keys are ids, not pairs",
            "What is a key of the result: (a, b), or a?",
            "look at what is given to Counter", "Counter(zip(ids, ids[1:]))",
            {"counts": "ids"}),
    Mistake("T4b", "pairs counted backwards: (b, a) where a stands before b",
            "each key has its two ids exchanged", "Which id of the pair comes first?",
            "look at i and i - 1", "(ids[i], ids[i + 1])", {"counts": "backwards"}),
    Mistake("T4r", "the last id paired with the first (ids[i - 1] at i = 0)",
            "the list is closed to a ring: ids[-1] is the last id",
            "Which id stands before the first one?", "look at ids[i - 1] for i = 0",
            "start at i = 1", {"counts": "round"}),
    Mistake("T4t", "the last id counted as a pair of its own",
            "one key has one id only", "How many ids stand after the last one?",
            "look at the end of the loop: range(len(ids))", "range(len(ids) - 1)",
            {"counts": "a lone id"}),
)

MERGE = (
    Mistake("T3", "one step after a merge, not two: a used id is used again",
            "aaaa becomes four ids, not two",
            "Both ids of the pair are used up. Where does reading go on?",
            "look at how i grows after a merge", "i += 2 after a merge", {"step": 1},
            mark="R"),
    Mistake("T3b", "merged from the right", "aaa becomes a, aa and not aa, a",
            "Which aa of aaa comes first?", "look at the direction of the loop",
            "go from the left", {"backwards": True}, mark="R"),
    Mistake("T3f", "only the first place merged", "later pairs stay",
            "How often does the pair stand there?", "look for a break or a return",
            "go on after a merge", {"once": True}, mark="R"),
    Mistake("T3e", "the last id is lost", "the result ends one id too early",
            "What happens to an id that has no right neighbour?",
            "look at the end of the loop: len(ids) - 1?",
            "the loop must also reach the last id", {"tail": False}, mark="R"),
    Mistake("T3n", "nothing is ever merged", "the ids come back as they were",
            "Is [5, 6] == (5, 6) in Python?", "compare a list with a tuple by hand",
            "tuple(ids[i:i + 2]) == pair", {"never": True}, mark="R"),
    Mistake("T3i", "its input list is changed", "the caller's list is not the same",
            "Who else may still need ids?", "look for ids[i] = or del",
            "build a new list", {"in_place": True}, mark="R"),
    Mistake("T3d", "digits replaced, not ids: the list is turned into a string",
            "197, 97 contains the characters 97,97, but not the ids 97, 97",
            "Does the string 197,97 contain 97,97?", "look for join and replace",
            "compare the ids themselves", {"match": "digits"}),
    Mistake("T3o", "merged in either order: (b, a) as well as (a, b)",
            "the pair the other way round is replaced, too",
            "May a merge turn ba into the token of ab?", "look for set or sorted",
            "(ids[i], ids[i + 1]) == pair", {"match": "any order"}),
    Mistake("T3w", "one id of the pair is enough", "pairs that agree in one place only "
            "are replaced, too", "What must be true of both ids?",
            "look for `or`", "(ids[i], ids[i + 1]) == pair", {"match": "one"}),
    Mistake("T3a", "the last id is written again after a merge at the end",
            "a list that ends in the pair gets one id too many",
            "Was the last id used up by the merge?", "look at what follows the loop",
            "append the last id only if i stands at it", {"last": "again"}),
)

LEARN = (
    Mistake("T4", "pairs that overlap counted once", "runs of one letter are too low",
            "At how many places does aa begin in aaaa?", "look at the counting",
            "zip(ids, ids[1:]) sees every place", {"overlap": False}, mark="S"),
    Mistake("T5", "ties go to the larger pair", "the same count, another choice",
            "Two pairs have the same count. Which one does the contract want?",
            "look at max: what decides when counts are equal?",
            "min(counts, key=lambda pair: (-counts[pair], pair))", {"tie": "larger"},
            mark="S"),
    Mistake("T5f", "ties go to the pair seen first", "the same count, another choice",
            "Two pairs have the same count. Which one does the contract want?",
            "max takes the first of equals", "min(counts, key=lambda pair: "
            "(-counts[pair], pair))", {"tie": "first"}, mark="S"),
    Mistake("T6", "letters in the place of UTF-8 bytes", "é is one id, and it is two "
            "bytes", "How many bytes has é?", "look at how text becomes numbers",
            "list(piece.encode())", {"unit": "letters"}),
    Mistake("T9", "not cut into pieces first", "merges are learned across spaces",
            "May a merge join the end of a word to the next one?",
            "where is PIECES used?", "count pairs inside each of PIECES.findall(text)",
            {"cut": False}, mark="R"),
    Mistake("T10", "counts from the beginning: not counted anew after a merge",
            "the second merge ignores the token that the first one made",
            "After aa became 256, does the pair aa still stand there?",
            "is the counting inside the loop, and over the merged ids?",
            "count again in each round", {"stale": True}),
    Mistake("T10l", "the merged lists are thrown away: every round sees the old ids",
            "the same pair wins each round, so one merge is left",
            "`ids = merge_pair(...)` gives a name to a new list. What is in `pieces`?",
            "where do the merged lists go?",
            "pieces = [merge_pair(ids, best, new) for ids in pieces]", {"lost": True},
            mark="R"),
    Mistake("T11", "the first new id is 257, not 256", "every new id is one too large",
            "The bytes are 0 to 255. Which number is free?", "look at the first id",
            "range(256, 256 + count)", {"first": 257}, mark="R"),
    Mistake("T11l", "the first new id is 255, which is a byte",
            "every new id is one too small", "The bytes are 0 to 255. Which is free?",
            "look at the first id", "range(256, 256 + count)", {"first": 255},
            mark="R"),
    Mistake("T11s", "every merge gets the same id", "the new id never grows",
            "Which number is free after the first merge?", "look at the new id",
            "256 + i", {"values": "first"}),
    Mistake("T11c", "the counts returned, not the new ids", "the values are how often "
            "each pair occurred", "What does the result map a pair to?",
            "look at what is stored", "merges[best] = new", {"values": "counts"}),
    Mistake("T11i", "the dict upside down: from new id to pair",
            "keys and values are exchanged", "What does the result map to what?",
            "look at what is stored", "merges[best] = new", {"values": "pairs"}),
    Mistake("T13", "stops when no pair occurs twice",
            "it returns fewer merges than asked for, though pairs are left",
            "When is no pair left?", "look for < 2 or > 1",
            "stop only if there is no pair at all", {"least": 2}),
    Mistake("T13d", "each different pre-token counted once (a set)",
            "frequent words weigh no more than rare ones",
            "How often should a pre-token that occurs ten times count?",
            "look for set or dict.fromkeys", "count in every one of PIECES.findall",
            {"pieces": "different"}),
    Mistake("T13l", "only the last pre-token is counted",
            "the other pre-tokens have no say", "Whose pairs are in `counts`?",
            "look for counts = inside the loop", "counts.update(count_pairs(ids))",
            {"pieces": "last"}),
    Mistake("T13p", "the counts pile up: not emptied for each merge",
            "pairs of earlier rounds are counted again",
            "What should the counts be at the start of a round?",
            "where is Counter() made?", "a new Counter in each round",
            {"piled": True}),
    Mistake("T13r", "the rarest pair, not the most frequent", "pairs that occur once "
            "come first", "Which pair saves most?", "look at min and max",
            "min(counts, key=lambda pair: (-counts[pair], pair))", {"rarest": True}),
    Mistake("T9w", "cut with text.split(), not with PIECES",
            "the spaces are lost, and punctuation stays with its word",
            "Where do the spaces of the text go?", "where is PIECES used?",
            "PIECES.findall(text)", {"pieces": "words"}),
    Mistake("T8", "spaces at the ends of pre-tokens are lost",
            "no merge ever holds a space", "Can a token begin with a space?",
            "look for strip", "leave the pre-tokens as they are",
            {"pieces": "stripped"}),
    Mistake("T6l", "capitals turned into small letters",
            "A and a are different bytes", "What is the byte of A?", "look for lower",
            "list(piece.encode())", {"pieces": "lower"}),
)

ENCODE = (
    Mistake("T1", "merged from left to right, not in the order of learning",
            "abc becomes ab, c where bc was learned first", _RANK,
            "how is the next merge chosen?", "min(present, key=merges.get)",
            {"order": "left"}, mark="R"),
    Mistake("T1l", "merges done once each, the last learned first",
            "late merges find their halves not made yet", _RANK,
            "in which order are the merges gone through?",
            "lowest id first, again and again", {"order": "once"}, mark="R"),
    Mistake("T2", "the longest token that fits, not the merges",
            "abc becomes ab, c, though bc was learned before ab",
            "Was the model trained on that spelling?",
            "are merges done, or tokens looked up?", "merge bytes by rank",
            {"order": "longest"}, mark="R"),
    Mistake("T3", "one step after a merge, not two", "aaaa becomes four ids, not two",
            "Both ids of the pair are used up. Where does reading go on?",
            "look at how i grows after a merge", "i += 2 after a merge", {"step": 1},
            mark="R"),
    Mistake("T6", "letters in the place of UTF-8 bytes", "é is one id of 233, not two",
            "How many bytes has é?", "look at how text becomes numbers",
            "list(piece.encode())", {"unit": "letters"}),
    Mistake("T8", "spaces at the ends of pieces are lost",
            "a and a with a space before it get the same id",
            "Can the text be put together again from your ids?", "look for strip",
            "leave the pieces as they are", {"strip": True}, mark="R"),
    Mistake("T9", "not cut into pieces first", "merges reach across pieces",
            "May a merge join the end of a word to the next one?",
            "where is PIECES used?", "for piece in PIECES.findall(text)",
            {"cut": False}, mark="R"),
    Mistake("T12", "special names split as ordinary text",
            "<|endoftext|> becomes many ids, not one",
            "How should the model tell the end of a text from a text about it?",
            "are special names cut out first, and is | a letter in your pattern?",
            "split the text at map(regex.escape, special)",
            {"names": False}, mark="R"),
    Mistake("T12l", "special names are left out",
            "the name is cut out of the text, and its id is missing",
            "Which parts does regex.split return without a group?",
            "look at the brackets of the pattern, and at `continue`",
            "result.append(special[part])", {"special_ids": "lost"}),
    Mistake("T12e", "special names come at the end, not in their place",
            "the ids of special names stand after all others",
            "At which place does the model need to see the end of a text?",
            "which list do they go into?", "append to the one list, in order",
            {"special_ids": "at the end"}),
    Mistake("T12o", "only <|endoftext|> is known, whatever `special` holds",
            "other special names are split as ordinary text",
            "What is `special` for?", "look for <|endoftext|> in your code",
            "map(regex.escape, special)", {"special_ids": "one"}),
    Mistake("T12n", "an empty `special` cuts the text between all characters",
            "without special names nothing is merged",
            "What does the pattern () match?", "what is the pattern if special is {}?",
            "parts = regex.split(...) if special else [text]",
            {"empty": "no pattern"}),
    Mistake("T1m", "the merge learned last first", "late merges take bytes that "
            "earlier ones need", _RANK, "look for max", "min(present, key=merges.get)",
            {"order": "last"}),
    Mistake("T1f", "the most frequent pair of the pre-token first",
            "when encoding, how often a pair occurs doesn't count", _RANK,
            "look for Counter", "min(present, key=merges.get)", {"order": "frequent"}),
    Mistake("T1o", "one merge for each pre-token, then it stops",
            "pairs that could still be merged are left",
            "After th, is there another pair in this pre-token?",
            "look for a break, an `if` in place of `while`",
            "while a pair of `merges` is present", {"order": "first only"}),
    Mistake("T6l", "capitals turned into small letters", "T and t are different bytes",
            "Can the text be put together again from your ids?", "look for lower",
            "list(piece.encode())", {"lower": True}),
)

DECODE = (
    Mistake("T7", "each token decoded by itself (with errors='replace')",
            "a letter whose bytes lie in two tokens becomes several �",
            "Is half of an emoji a text?", "what is decoded: one token, or all bytes?",
            "b''.join(tokens[i] for i in ids).decode('utf-8', 'replace')",
            {"each": "replace"}),
    Mistake("T7i", "each token decoded by itself, broken ones left out",
            "a letter whose bytes lie in two tokens is lost",
            "Is half of an emoji a text?", "what is decoded: one token, or all bytes?",
            "join the bytes first", {"each": "ignore"}),
    Mistake("T7s", "each token decoded by itself, and an error for a broken one",
            "UnicodeDecodeError at an emoji over two tokens",
            "Is half of an emoji a text?", "what is decoded: one token, or all bytes?",
            "join the bytes first, then decode with errors='replace'",
            {"each": "strict"}),
    Mistake("T7e", "no errors='replace': a text that is cut within a letter fails",
            "UnicodeDecodeError at half of an emoji",
            "May a model stop in the middle of a letter?", "look at .decode(...)",
            ".decode('utf-8', 'replace')", {"errors": "strict"}, mark="S"),
    Mistake("T8d", "a space between the tokens", "spaces that no token holds",
            "Where do the spaces of a text live?", "look at what joins the tokens",
            "b''.join: the spaces are in the tokens", {"between": " "}, mark="R"),
    Mistake("T7g", "errors='ignore': bytes that are no character are dropped",
            "half of an emoji leaves no trace", "What should a reader see where "
            "something is missing?", "look at .decode(...)",
            ".decode('utf-8', 'replace')", {"errors": "ignore"}),
    Mistake("T7b", "errors='backslashreplace': bytes shown as \\x..",
            "half of an emoji becomes \\xf0\\x9f", "Which sign stands for what can't "
                                                   "be "
            "decoded?", "look at .decode(...)", ".decode('utf-8', 'replace')",
            {"errors": "backslashreplace"}),
    Mistake("T7l", "each byte a character (latin-1, or chr)",
            "é becomes two characters", "How many bytes has é in UTF-8?",
            "look for latin-1 or chr", ".decode('utf-8', 'replace')",
            {"code": "latin-1"}),
    Mistake("T7a", "decoded as ASCII, not as UTF-8", "every byte above 127 becomes �",
            "Which bytes does ASCII know?", "look at .decode(...)",
            ".decode('utf-8', 'replace')", {"code": "ascii"}),
    Mistake("T7r", "str(...) of the bytes: b'...' and all",
            "the result begins with b'", "What does str(b'a') give?", "look for str",
            ".decode('utf-8', 'replace')", {"shown": True}),
    Mistake("T8", "spaces at the ends are lost", "the text is shorter than its tokens",
            "Who asked for strip?", "look for strip",
            "leave the text as it is", {"strip": True}),
)

# --- exercises ------------------------------------------------------------------------

count_pairs = Exercise(
    "count_pairs", "09", "count_pairs(ids) -> {(id, id): how often}", pairs,
    pair_probes, PAIRS, hints=(
        "Each place but the last begins a pair.", "Print zip(ids, ids[1:]).",
                  "Counter(zip(ids, ids[1:]))"), solution="""\
def count_pairs(ids):
    counts = {}
    for i in range(len(ids) - 1):
        pair = ids[i], ids[i + 1]
        counts[pair] = counts.get(pair, 0) + 1
    return counts""")

merge_pair = Exercise(
    "merge_pair", "09", "merge_pair(ids, pair, new) -> list of ids", merged,
    merge_probes, MERGE, crashes=((
        r"IndexError: list index", "the last id has no right neighbour: ask for i + 1 "
                                   "< "
        "len(ids) before you read ids[i + 1]"),), hints=(
        "Walk from the left. Where the pair stands, write the new id; jump over both.",
        "Try aaaa by hand: what is written, and where does i stand then?",
        "i += 2 after a merge, i += 1 else"), solution="""\
def merge_pair(ids, pair, new):
    merged, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            merged.append(new)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged""")

learn_merges = Exercise(
    "learn_merges", "09", "learn_merges(text, count) -> {(id, id): new id}", learned,
    learn_probes, LEARN, crashes=((
        r"(min|max)\(\).*(empty|arg)", "no pair is left: stop early, before min or max "
        "is asked"),), hints=(
        "A round: count the pairs inside all pieces, take the most frequent, merge it.",
        "Print the counts of each round for aaabdaaabac.",
        "min(counts, key=lambda pair: (-counts[pair], pair))"), solution="""\
def learn_merges(text, count):
    pieces = [list(piece.encode()) for piece in PIECES.findall(text)]
    merges = {}
    for new in range(256, 256 + count):
        counts = Counter()
        for ids in pieces:
            counts.update(count_pairs(ids))
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges[best] = new
        pieces = [merge_pair(ids, best, new) for ids in pieces]
    return merges""")

encode = Exercise(
    "encode", "09", "encode(text, merges, special) -> list of ids", encoded,
    encode_probes, ENCODE, robust=(Robust(
        "of two special names of which one begins the other, the longer should be "
        "found "
        "first: sort them by length, longest first, before they are joined with |",
        _names_inside),), hints=(
        "Special names first, then pieces, then in each piece the earliest merge.",
        "Encode athis by hand with the four merges of the lesson.",
        "while a pair of merges is present: merge the one with the lowest id"),
    solution="""\
def encode(text, merges, special):
    if not special:
        parts = [text]
    else:
        names = sorted(special, key=len, reverse=True)           # the longest first
        parts = regex.split("(" + "|".join(map(regex.escape, names)) + ")", text)
    result = []
    for part in parts:
        if part in special:
            result.append(special[part])
            continue
        for piece in PIECES.findall(part):
            ids = list(piece.encode())
            while True:
                present = [pair for pair in zip(ids, ids[1:]) if pair in merges]
                if not present:
                    break
                first = min(present, key=merges.get)
                ids = merge_pair(ids, first, merges[first])
            result.extend(ids)
    return result""")

decode = Exercise(
    "decode", "09", "decode(ids, tokens) -> text", decoded, decode_probes, DECODE,
    hints=("A token is bytes, and a letter may need the bytes of two tokens.",
           "What does b'\\xf0\\x9f' decode to?",
           "join the bytes, then decode once"), solution="""\
def decode(ids, tokens):
    return b"".join(tokens[i] for i in ids).decode("utf-8", errors="replace")""")

decode_to_repair = decode.to_repair("decode_to_repair", "T7s")
