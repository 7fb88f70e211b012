"""Lesson 03: what heads cost, predicted."""

from gpt2_lesson.checks.engine import Mistake
from gpt2_lesson.checks.values import Answer

_P, _M, _W = "parameters", "products for q @ k.T", "attention weights"
_ALL, _PAIRS = 1_050_624, 5_120_000


def _mistake(id: str, name: str, why: str, idea: str, fix: str) -> Mistake:
    return Mistake(id, name, why, idea, "count for one head first", fix)


_MATRICES = "Which matrices does the layer have, and does their size depend on H?"
_D = "How many channels does one head have, and how many heads are there?"
_MAPS = "How many maps are there, and how many cells has one?"
_COUNT = "4 * C**2 + 4 * C"
_NO_BIAS = _mistake("P1", "the biases not counted", "2,048 too few: 3C + C",
                    "Which vectors does the layer have beside its matrices?", _COUNT)
_NO_OUT = _mistake("P2", "the output projection not counted",
                   "262,656 too few: C x C and its bias", _MATRICES, _COUNT)
_MORE = _mistake("P3", "eight times as many parameters with 8 heads",
                 "heads group the channels; the matrices stay", _MATRICES, _COUNT)
_FEWER = _mistake("P4", "an eighth of the parameters with 8 heads",
                  "one head has an eighth, and there are eight", _MATRICES, _COUNT)
_FULL = _mistake("P5", "each of the 8 heads takes all 512 channels",
                 "a head has 64 channels", _D, "H * T * T * (C / H)")
_ONE = _mistake("P6", "the products of one head of the 8 only",
                "there are eight such heads", _D, "H * T * T * (C / H)")
_HALF = _mistake("P7", "the mask taken into account", "without a mask every pair "
                                                      "counts: "
                 "T x T of them", "How many pairs of tokens are there?", "T * T")
_ROWS = _mistake("P8", "one product for each token, not for each pair",
                 "each query meets each key", "How many pairs of tokens are there?",
                 "H * T * T * (C / H)")
_MAP = _mistake("P9", "one map for all heads", "each head has weights of its own",
                _MAPS, "H * T * T")
_SMALL = _mistake("P10", "an eighth of the weights with 8 heads",
                  "a map is T x T for each head, whatever its channels", _MAPS,
                  "H * T * T")

ANSWERS = (
    Answer("03.1", "parameters, products and weights, with 1 head and with 8",
           {"parameters": [1_050_624, 1_050_624],
            "products for q @ k.T": [5_120_000, 5_120_000],
            "attention weights": [10_000, 80_000]}, predict=True,
           wrong=(({_P: [1_048_576] * 2}, _NO_BIAS), ({_P: [787_968] * 2}, _NO_OUT),
                  ({_P: [786_432] * 2}, _NO_OUT), ({_P: [_ALL, 8 * _ALL]}, _MORE),
                  ({_P: [_ALL, _ALL // 8]}, _FEWER),
                  ({_M: [_PAIRS, 8 * _PAIRS]}, _FULL),
                  ({_M: [_PAIRS, _PAIRS // 8]}, _ONE), ({_M: [2_585_600] * 2}, _HALF),
                  ({_M: [51_200] * 2}, _ROWS), ({_W: [10_000] * 2}, _MAP),
                  ({_W: [10_000, 1_250]}, _SMALL), ({_W: [5_050, 40_400]}, _HALF)),
           hints=("Heads are a way of grouping the channels. Which of the three "
                  "numbers depend on how channels are grouped?",
                  "Parameters: a matrix C x 3C and one C x C, each with a bias. "
                  "Products: D for each pair of tokens in each head. Weights: one for "
                  "each pair in each head.",
                  "4 * C**2 + 4 * C; H * T * T * D with D = C / H; H * T * T"),
           solution='predicted = {"parameters": [1_050_624, 1_050_624],\n'
                    '             "products for q @ k.T": [5_120_000, 5_120_000],\n'
                    '             "attention weights": [10_000, 80_000]}'),
)
