"""Tell small stories whose exact probability is known.

A story is told choice by choice, and the chance of each choice is written down here.
So the probability of a whole story is known, and with it the lowest loss that any
model can reach on such stories: the floor.

The grammar is a table. `{hero}` in a sentence means: at its first mention, choose a
hero; at every later mention, say the same name again. What may be chosen can depend
on an earlier choice (`Given`): the weather decides what is found, and what is found
decides how it helps. Nothing more is needed to make a model look back.

No text can be told in two ways: each option of a choice has a beginning (`_head`) that
is not the beginning of another option's, so the text shows which one was taken.
"""

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from gpt2_lesson import validation
from gpt2_lesson.renamed import former

__getattr__ = former(__name__)


class Given(NamedTuple):
    """Options that depend on what was chosen earlier for `slot`."""

    slot: str
    table: dict[str, list[str]]


# A list is a fair choice; a dictionary gives each option its weight.
GRAMMAR: dict[str, list[str] | dict[str, int] | Given] = {
    "story": ["{opening}{meeting}{rescue}{feast}{gift}{ending}"],
    "opening": {
        "One {sky} {time} {hero} found {article}{colour} {thing} by the {place}. ": 2,
        "By the {place}, one {sky} {time}, {hero} found {article}{colour} {thing}. ": 1,
        "A {sky} {time}! By the {place} {hero} found {article}{colour} {thing}. ": 1,
    },
    "meeting": [
        "Nearby, {friend} the {animal} {trouble}. ",
        "Oh! {friend} the {animal} {trouble}. ",
        "Look! {friend} the {animal} {trouble}. ",
    ],
    "rescue": [
        "But the {thing} {act}, and {friend} {relief}. ",
        "Soon the {thing} {act}, and {friend} {relief}. ",
        "Then the {thing} {act}, so {friend} {relief}. ",
    ],
    "feast": [
        "By the {place} they ate {food}. ",
        "They ate {food} by the {place}. ",
        "Both had {food} by the {place}. ",
    ],
    "gift": [
        '"Keep it," said {giver}. ',
        '"Take it," said {giver}. ',
        '"For you," said {giver}. ',
    ],
    "ending": {
        "So {owner} took the {colour} {thing} home {path}.\n": 2,
        "Home went {owner} and the {colour} {thing} {path}.\n": 1,
        "Off went {owner} with the {colour} {thing} {path}.\n": 1,
    },
    # Who is in it. Names begin alike, so that a model has to attend to both.
    "hero": ["Mia", "Milo", "Mara", "Tom", "Tess", "Nora", "Noah", "Nell"],
    "friend": ["Moss", "Mint", "Max", "Tuck", "Toby", "Tim", "Nib", "Nan"],
    "animal": ["mole", "mouse", "hare", "fox", "goat", "cat", "puppy", "hen"],
    "giver": ["{hero}", "{friend}"],
    "owner": Given("giver", {"{hero}": ["{friend}"], "{friend}": ["{hero}"]}),
    # When and where.
    "sky": ["foggy", "snowy", "rainy", "windy"],
    "time": ["day", "dawn", "dusk", "night"],
    "place": ["mill", "pond", "well", "barn", "gate", "shed", "lane", "hill"],
    # What is found: the weather decides. The article is chosen first, then the colour.
    "article": {"a ": 5, "an ": 3},
    "colour": Given(
        "article",
        {
            "a ": ["red", "blue", "green", "pink", "white"],
            "an ": ["amber", "olive", "old"],
        },
    ),
    "thing": Given(
        "sky",
        {
            "foggy": ["lamp", "bell", "drum", "horn"],
            "snowy": ["scarf", "quilt", "coat", "cloak"],
            "rainy": ["boat", "raft", "tub", "canoe"],
            "windy": ["rope", "net", "pole", "ladder"],
        },
    ),
    # What is wrong, and how the thing helps.
    "trouble": Given(
        "sky",
        {
            "foggy": ["had lost the way", "was quite lost", "saw no path"],
            "snowy": ["had frozen paws", "was shivering", "felt icy cold"],
            "rainy": ["sat on a rock", "clung to a log", "could not swim"],
            "windy": ["sat up in an elm", "clung to a pine", "hung from an oak"],
        },
    ),
    "act": Given(
        "thing",
        {
            "lamp": ["shone gold", "lit the path"],
            "bell": ["rang clear", "sang out"],
            "drum": ["boomed", "went rum-tum"],
            "horn": ["blew low", "called far"],
            "scarf": ["was soft", "went round two"],
            "quilt": ["made a tent", "was thick"],
            "coat": ["fit them both", "had a hood"],
            "cloak": ["was furry", "kept off wind"],
            "boat": ["held them", "rode the waves"],
            "raft": ["did not sink", "floated up"],
            "tub": ["bobbed along", "spun about"],
            "canoe": ["shot across", "slid close"],
            "rope": ["held fast", "made a swing"],
            "net": ["made a bed", "was springy"],
            "pole": ["made a slide", "stood firm"],
            "ladder": ["reached up", "was tall"],
        },
    ),
    "relief": Given(
        "sky",
        {
            "foggy": ["came running", "felt brave", "ran to it"],
            "snowy": ["felt warm", "grew cosy", "smiled"],
            "rainy": ["came to land", "got ashore", "was safe"],
            "windy": ["came down", "got down", "slid down"],
        },
    ),
    # How it ends: the weather of the first sentence comes back in the last.
    "food": [
        "plum pie",
        "pea soup",
        "warm buns",
        "nut cake",
        "jam tarts",
        "ripe figs",
        "hot toast",
        "corn soup",
    ],
    "path": Given(
        "sky",
        {
            "foggy": ["as the fog rose", "through mist", "on a clear road"],
            "snowy": ["over the snow", "as snow fell", "on white lanes"],
            "rainy": ["as rain slowed", "past puddles", "in wet boots"],
            "windy": ["as winds slept", "with the breeze", "among leaves"],
        },
    ),
}

Option = tuple[str, str, float]  # template, its head, its probability


@dataclass(frozen=True)
class Story:
    """One story: its `text` and its `log_probability` in nats."""

    text: str
    log_probability: float


def draw_story(rng: random.Random) -> Story:
    """Return a story drawn with `rng`, with its log-probability in nats."""
    words: list[str] = []
    logs: list[float] = []

    def choose(options: list[Option]) -> str:
        option, _, p = _draw(options, rng)
        logs.append(math.log(p))
        return option

    _tell("{story}", words.append, choose, {}, {})
    return Story("".join(words), math.fsum(logs))


def stories(count: int, seed: int = 0) -> str:
    """Return `count` stories one after the other, the same for the same `seed`."""
    count = validation.whole_number("count", count, 0)
    rng = random.Random(validation.seed("seed", seed))
    return "".join(draw_story(rng).text for _ in range(count))


def log_probability(text: str) -> float:
    """Return the exact log-probability (nats) of one whole story, newline included.

    Raises ValueError naming the first byte that fits no story, and what was expected.
    """
    return -math.fsum(nll(text))


def nll(text: str) -> list[float]:
    """Return -ln P(byte | bytes before it) in nats, for each byte of one story.

    Options that begin alike have common first bytes: these are certain, and count 0.
    Raises ValueError as `log_probability` does.
    """
    validation.text("text", text)
    at = 0
    nats: list[float] = []

    def say(words: str) -> None:
        nonlocal at
        _follow([("", words, 1.0)], text, at)
        at += len(words)
        nats.extend([0.0] * (at - len(nats)))

    def choose(options: list[Option]) -> str:
        option, spent = _follow(options, text, at)
        nats.extend(spent)
        return option

    _tell("{story}", say, choose, {}, {})
    if at < len(text):
        raise ValueError(f"byte {at} is {text[at]!r}; expected the end of the story")
    return nats


@cache
def entropy_rate() -> float:
    """Return the least loss any model can reach, in nats per byte: E[-log p]/E[bytes].

    Exact. The choices are followed through every branch, but two ways of telling that
    can no longer lead to different choices are averaged into one, so few remain.
    """
    worlds = _outlook("{story}", World(1.0, 0.0, 0.0, {}, {}))
    nats = math.fsum(world.p * world.nats for world in worlds)
    return nats / math.fsum(world.p * world.size for world in worlds)


@cache
def _pieces(template: str) -> tuple[tuple[str, str], ...]:
    """Return `template` as pairs (literal text, slot after it or "")."""
    parts = re.split(r"\{(\w+)\}", template) + [""]
    return tuple(zip(parts[::2], parts[1::2], strict=True))


@cache
def _chances(slot: str, given: str = "") -> dict[str, float]:
    """Return the probability of each option of `slot`, `given` the deciding option."""
    rule = GRAMMAR[slot]
    options = rule.table[given] if isinstance(rule, Given) else rule
    weights = options if isinstance(options, dict) else dict.fromkeys(options, 1)
    return {o: weight / sum(weights.values()) for o, weight in weights.items()}


def _rule(slot: str, chosen: dict[str, str]) -> dict[str, float]:
    """Return the probability of each option of `slot`, after the options `chosen`."""
    rule = GRAMMAR[slot]
    return _chances(slot, chosen[rule.slot] if isinstance(rule, Given) else "")


def _head(template: str, told: dict[str, str]) -> str:
    """Return the text of `template` up to its first slot that is not yet told."""
    head = ""
    for literal, slot in _pieces(template):
        head += literal
        if slot and slot not in told:
            break
        head += told.get(slot, "")
    return head


def _tell(
    template: str,
    say: Callable[[str], None],
    choose: Callable[[list[Option]], str],
    told: dict[str, str],
    chosen: dict[str, str],
) -> str:
    """Return the text that `template` becomes, having told it piece by piece.

    `say` gets each piece of text that is certain; `choose` gets the options of each
    choice and returns the one to take. Slots end up in `told` (their text) and `chosen`
    (the option taken, as the grammar has it).
    """
    text = ""
    for literal, slot in _pieces(template):
        if literal:
            say(literal)
        if slot in told:
            say(told[slot])
        elif slot:
            rule = _rule(slot, chosen).items()
            chosen[slot] = choose([(o, _head(o, told), p) for o, p in rule])
            told[slot] = _tell(chosen[slot], say, choose, told, chosen)
        text += literal + told.get(slot, "")
    return text


def _draw(options: list[Option], rng: random.Random) -> Option:
    """Return one of `options`, each with its probability."""
    point = rng.random()
    for option in options:
        point -= option[2]
        if point < 0:
            return option
    return options[-1]  # rounding left the last one out


def _follow(options: list[Option], text: str, at: int) -> tuple[str, list[float]]:
    """Return the option that `text` takes from byte `at` on, and each byte's nats."""
    alive = options
    nats: list[float] = []
    while len(alive) > 1 or len(nats) < len(alive[0][1]):
        i = len(nats)
        letter = text[at + i : at + i + 1]
        fits = [option for option in alive if option[1][i] == letter]
        if not fits:
            seen = repr(letter) if letter else "missing: the text ends here"
            wanted = " or ".join(sorted({repr(head[i:]) for _, head, _ in alive}))
            raise ValueError(f"byte {at + i} is {seen}; expected {wanted}")
        before, after = (sum(p for _, _, p in group) for group in (alive, fits))
        nats.append(math.log(before / after))
        alive = fits
    return alive[0][0], nats


class World(NamedTuple):
    """What is expected of all the tellings that made the same deciding choices."""

    p: float  # how likely they are together
    nats: float  # mean -log p so far
    size: float  # mean number of bytes so far
    sizes: dict[str, float]  # slot -> mean bytes of a mention
    chosen: dict[str, str]  # deciding slot -> option


def _outlook(template: str, world: World) -> list[World]:
    """Return the worlds that telling `template` in `world` leads to."""
    worlds = [world]
    for literal, slot in _pieces(template):
        worlds = [w._replace(size=w.size + len(literal)) for w in worlds]
        if slot:
            worlds = [after for w in worlds for after in _mention(slot, w)]
    return worlds


def _mention(slot: str, world: World) -> list[World]:
    """Return the worlds that mentioning `slot` in `world` leads to."""
    if slot in world.sizes:
        return [world._replace(size=world.size + world.sizes[slot])]
    deciding = {rule.slot for rule in GRAMMAR.values() if isinstance(rule, Given)}
    after = []
    for option, p in _rule(slot, world.chosen).items():
        chosen = {slot: option} if slot in deciding else {}
        taken = world._replace(
            p=world.p * p, nats=world.nats - math.log(p), chosen=world.chosen | chosen
        )
        for w in _outlook(option, taken):
            after.append(w._replace(sizes=w.sizes | {slot: w.size - world.size}))
    return _merge(after)


def _merge(worlds: list[World]) -> list[World]:
    """Return `worlds` with those averaged that no later choice can tell apart."""
    groups: dict[tuple, list[World]] = {}
    for w in worlds:
        key = (frozenset(w.chosen.items()), frozenset(w.sizes))
        groups.setdefault(key, []).append(w)
    return [_average(group) for group in groups.values()]


def _average(worlds: list[World]) -> World:
    """Return the mean of `worlds`, weighted by their probabilities."""
    p = math.fsum(w.p for w in worlds)

    def mean(values: list[float]) -> float:
        return math.fsum(w.p * v for w, v in zip(worlds, values, strict=True)) / p

    sizes = {slot: mean([w.sizes[slot] for w in worlds]) for slot in worlds[0].sizes}
    return World(
        p,
        mean([w.nats for w in worlds]),
        mean([w.size for w in worlds]),
        sizes,
        worlds[0].chosen,
    )
