"""The answers of lesson 00: loss without opinion, odds, surprise."""

import math

import pytest

from gpt2_lesson import checks

ODDS = {"mat": 0.6, "sofa": 0.25, "moon": 0.1, "Tuesday": 0.04, "of": 0.01}
CAME = [ODDS[word] for word in ("mat", "mat", "sofa", "moon")]
REST = [p for word, p in ODDS.items() if word != "mat"]
POWERS = [math.exp(p) for p in REST]

RIGHT = {"00.1": [math.log(256), 5.5, 5.55, -math.log(1 / 256)],
         "00.2": [[p / sum(REST) for p in REST], [0.62, 0.25, 0.1, 0.03]],
         "00.3": [-sum(map(math.log, CAME)) / 4, 1.178]}
WRONG = {
    "S1": ("00.2", REST),
    "S2": ("00.2", [p + ODDS["mat"] / 4 for p in REST]),
    "S3": ("00.2", [power / sum(POWERS) for power in POWERS]),
    "S2b": ("00.2", [0.25] * 4), "S2c": ("00.2", [0.85, *REST[1:]]),
    "S1b": ("00.2", [p / ODDS["mat"] for p in REST]),
    "S1c": ("00.2", [p * ODDS["mat"] for p in REST]),
    "S1d": ("00.2", [100 * p / sum(REST) for p in REST]),
    "S4": ("00.3", -sum(map(math.log, CAME))),
    "S5": ("00.3", sum(map(math.log, CAME)) / 4),
    "S6": ("00.3", -sum(map(math.log2, CAME)) / 4),
    "S7": ("00.3", -sum(map(math.log10, CAME)) / 4),
    "S8": ("00.3", -math.log(sum(CAME) / 4)),
    "S9": ("00.3", -sum(p * math.log(p) for p in ODDS.values())),
    "S10": ("00.3", -sum(map(math.log, CAME[1:])) / 3),
    "S11": ("00.3", -sum(map(math.log, ODDS.values())) / 5),
    "S12": ("00.3", -sum(map(math.log, CAME)) / 5),
    "S13": ("00.3", sum(CAME) / 4), "S15": ("00.3", math.prod(CAME)),
    "S14": ("00.3", math.exp(-sum(map(math.log, CAME)) / 4)),
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
