"""Names for heads, by what they attend to: previous token, first token, ..."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

ENOUGH = 0.3  # mean weight on a place from which on a head is named after it
CLEARLY = 2.0  # and at least so many times what even weights would put there
EVEN = 0.8  # evenness from which on a head is called broad


@dataclass(frozen=True)
class Label:
    """One kind of head: `scores` (L, H) in 0..1, and `threshold`, from where it counts.

    `scores` is None when the text has no such place, as no token comes twice.
    """

    name: str
    meaning: str
    threshold: float
    scores: np.ndarray | None


def head_labels(weights: np.ndarray, input_ids: ArrayLike) -> list[Label]:
    """Return the score of each kind of head for `weights` (L, H, T, T).

    The score is the mean weight on that kind of place, over the queries that have one
    (the first token, which has no choice, is left out). For "broad" it is the entropy
    of a row over the largest possible, ln of the number of keys, in the mean. A score
    counts from 0.30 on if it is also twice what even weights would reach.
    """
    labels = [
        _label(name, meaning, weights, place)
        for name, meaning, place in _places(np.asarray(input_ids))
    ]
    even = _evenness(weights) if weights.shape[-1] > 1 else None
    meaning = "distributed over all keys; 1 would be uniform"
    return [*labels, Label("broad", meaning, EVEN, even)]


def _places(ids: np.ndarray) -> list[tuple[str, str, np.ndarray]]:
    """Return the kinds of place: name, meaning, and (T, T), True where it is."""
    size = len(ids)
    query, key = np.arange(size)[:, None], np.arange(size)[None]
    same = (ids[:, None] == ids) & (key < query)  # an earlier one of its kind
    after = np.zeros((size, size), bool)
    after[:, 1:] = same[:, :-1]
    chosen = query > 0
    return [
        ("previous token", "the token before the query", key == query - 1),
        ("first token", "the first token of the text", (key == 0) & chosen),
        ("itself", "the query itself", (key == query) & chosen),
        (
            "induction",
            "the token after an earlier occurrence of the query's token",
            after & (key < query),
        ),
        ("duplicate", "an earlier occurrence of the query's token", same),
    ]


def _label(name: str, meaning: str, weights: np.ndarray, place: np.ndarray) -> Label:
    queries = place.any(-1)
    if not queries.any():
        return Label(name, meaning, ENOUGH, None)
    scores = (weights * place).sum(-1)[..., queries].mean(-1)
    keys = np.arange(1, len(place) + 1)
    chance = (place.sum(-1) / keys)[queries].mean()  # what even weights reach
    return Label(name, meaning, max(ENOUGH, min(0.9, CLEARLY * chance)), scores)


def _evenness(weights: np.ndarray) -> np.ndarray:
    """Return the entropy of the rows over its largest value, (L, H), without row 0."""
    rows = weights[..., 1:, :].astype(np.float64)
    entropy = -(rows * np.log(np.where(rows > 0, rows, 1))).sum(-1)
    return (entropy / np.log(np.arange(2, weights.shape[-1] + 1))).mean(-1)
