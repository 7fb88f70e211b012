"""The answers of lesson 00: probabilities, NLL, loss."""

import math

import pytest
import torch
import torch.nn.functional as F

from gpt2_lesson import checks
from gpt2_lesson.corpora import story_model

PROBS = {"mat": 0.6, "sofa": 0.25, "moon": 0.1, "Tuesday": 0.04, "of": 0.01}
CAME = [PROBS[word] for word in ("mat", "mat", "sofa", "moon")]
REST = [p for word, p in PROBS.items() if word != "mat"]
POWERS = [math.exp(p) for p in REST]

STORY = "\nOne foggy dusk Tess found a red lamp by the pond."
FORECAST = "\nIt will rain in Tokyo on Monday."


def token_nll(text: str) -> list[float]:
    """Return the story model's NLL of each character of a text but the first."""
    ids = torch.tensor([list(text.encode())])
    with torch.no_grad():
        logits = story_model()(ids)
    return F.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="none").tolist()


NLL, SNOWY, ELSE = map(token_nll, (STORY, STORY.replace("foggy", "snowy"), FORECAST))
L = STORY.index("lamp") - 1
MEASURED = {
    "story": sum(NLL) / len(NLL),
    "snowy l": SNOWY[L],
    "forecast": sum(ELSE) / len(ELSE),
}

RIGHT = {
    "00.1": [math.log(256), 5.5, 5.55, -math.log(1 / 256)],
    "00.2": [[p / sum(REST) for p in REST], [0.62, 0.25, 0.1, 0.03]],
    "00.3": [-sum(map(math.log, CAME)) / 4, 1.178],
    "00.4": [MEASURED, {name: round(nll, 2) for name, nll in MEASURED.items()}],
    "00.5": [[0.49, 0.245, 0.245, 0.01, 0.01], [0.48, 0.25, 0.25, 0.01, 0.01]],
}
WRONG = {
    "S1": ("00.2", REST),
    "S2": ("00.2", [p + PROBS["mat"] / 4 for p in REST]),
    "S3": ("00.2", [power / sum(POWERS) for power in POWERS]),
    "S2b": ("00.2", [0.25] * 4),
    "S2c": ("00.2", [0.85, *REST[1:]]),
    "S1b": ("00.2", [p / PROBS["mat"] for p in REST]),
    "S1c": ("00.2", [p * PROBS["mat"] for p in REST]),
    "S1d": ("00.2", [100 * p / sum(REST) for p in REST]),
    "S4": ("00.3", -sum(map(math.log, CAME))),
    "S5": ("00.3", sum(map(math.log, CAME)) / 4),
    "S6": ("00.3", -sum(map(math.log2, CAME)) / 4),
    "S7": ("00.3", -sum(map(math.log10, CAME)) / 4),
    "S8": ("00.3", -math.log(sum(CAME) / 4)),
    "S9": ("00.3", -sum(p * math.log(p) for p in PROBS.values())),
    "S10": ("00.3", -sum(map(math.log, CAME[1:])) / 3),
    "S11": ("00.3", -sum(map(math.log, PROBS.values())) / 5),
    "S12": ("00.3", -sum(map(math.log, CAME)) / 5),
    "S13": ("00.3", sum(CAME) / 4),
    "S15": ("00.3", math.prod(CAME)),
    "S32": (
        "00.3",
        F.cross_entropy(
            torch.tensor([list(PROBS.values())] * 4), torch.tensor([0, 0, 1, 2])
        ),
    ),
    "S14": ("00.3", math.exp(-sum(map(math.log, CAME)) / 4)),
    "S23": ("00.4", MEASURED | {"story": sum(NLL), "forecast": sum(ELSE)}),
    "S24": (
        "00.4",
        MEASURED
        | {"story": sum(NLL) / len(STORY), "forecast": sum(ELSE) / len(FORECAST)},
    ),
    "S25": ("00.4", MEASURED | {"snowy l": SNOWY[L + 1]}),
    "S26": ("00.4", MEASURED | {"snowy l": NLL[L]}),
    "S27": ("00.4", {name: nll / math.log(2) for name, nll in MEASURED.items()}),
    "S28": ("00.5", [1 / 2, 1 / 4, 1 / 4, 0, 0]),
    "S29": ("00.5", [0.96, *[0.01] * 4]),
    "S30": ("00.5", [1 / 5] * 5),
    "S31": ("00.5", list(PROBS.values())),
}


@pytest.mark.parametrize("number", RIGHT)
def test_right_answers_pass(number: str) -> None:
    for value in RIGHT[number]:
        assert checks.answer(number, value).passed


@pytest.mark.parametrize("mistake", WRONG)
def test_each_wrong_value_has_its_name(mistake: str) -> None:
    report = checks.answer(*WRONG[mistake])
    assert not report.passed
    assert [one.id for match in report.matches for one in match] == [mistake]


@pytest.mark.parametrize("wrong", [8, 1 / 256, 256, -math.log(256), math.log10(256)])
def test_a_wrong_prediction_is_wrong(wrong: float) -> None:
    assert not checks.answer("00.1", wrong).passed


@pytest.mark.parametrize(
    "wrong",
    [[0.5, 0.25, 0.25], [0.6, 0.25, 0.25, 0.01, 0.01], [0.42, 0.24, 0.24, 0.05, 0.05]],
)
def test_other_opinions_are_measured(wrong: list[float]) -> None:
    report = checks.answer("00.5", wrong)
    assert not report.passed and not report.matches and report.symptoms
