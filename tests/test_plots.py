"""The lessons' pictures: what is drawn, what is said, and what is refused."""

import base64
import io
import math
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import torch
from IPython.display import Image
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image as Pillow

from gpt2_lesson import plots
from gpt2_lesson.plots import charts
from gpt2_lesson.plots.picture import same_format
from gpt2_lesson.plots.text import WRAP, _wrap

TOKENS = "The cat sat on it".split()
STORY = "A fox $found$ a lamp.\nIt was glad of it, and so it ran home to its den."
SURPRISE = torch.linspace(0, 5, len(STORY))
DRAWINGS: dict[str, Callable[[], None]] = {
    "attention": lambda: plots.show_attention(torch.eye(5), TOKENS, alt="A point."),
    "long attention": lambda: plots.show_attention(
        torch.rand(64, 64, generator=torch.Generator().manual_seed(0)).softmax(-1),
        STORY[:64],
        alt="A point.",
    ),
    "heads": lambda: plots.show_attention(
        torch.eye(5).expand(12, 5, 5), TOKENS, alt="A point."
    ),
    "matrix": lambda: plots.show_matrix(torch.arange(12).reshape(2, 6), alt="A point."),
    "matrices": lambda: plots.show_matrix(
        [torch.eye(3), -torch.eye(3)], title=["a", "b"], alt="A point."
    ),
    "lines": lambda: plots.show_lines(
        {"one": [3.0, 2.0, 1.0], "two": ([1, 10], [1, 2])},
        levels={"floor": 0.5},
        xlabel="step",
        ylabel="nats",
        alt="A point.",
    ),
    "bars": lambda: plots.show_bars(
        {"a": [0.5, 0.5], "b": [0.1, math.nan]}, ["cat", "\n"], alt="A point."
    ),
    "histograms": lambda: plots.show_histograms(
        {"a": torch.arange(9.0), "b": [1.0, math.nan]}, xlabel="x", alt="A point."
    ),
    "timeline": lambda: plots.show_timeline(
        {"rank 0": [("forward", 0, 2), ("backward", 2, 5)], "rank 1": [("wait", 1, 2)]},
        xlabel="ms",
        alt="A point.",
    ),
    "text": lambda: plots.show_text(
        STORY,
        {"exact": SURPRISE, "model": SURPRISE / 2},
        low_label="low",
        high_label="high",
        alt="A point.",
    ),
}

FIGURES = Path(__file__).parents[1] / "figures"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Image]:
    """Return the list of pictures that the functions show from here on."""
    pictures: list[Image] = []
    monkeypatch.setattr("gpt2_lesson.plots.picture.display", pictures.append)
    return pictures


def pixels(picture: Image) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(picture.data)).convert("RGB"))


def centre(picture: Image, colour: tuple[float, ...]) -> tuple[float, float]:
    """Return the mean (row, column) of the pixels of this colour, up to rounding."""
    distance = np.abs(pixels(picture) - 255 * np.asarray(colour[:3])).max(-1)
    found = np.argwhere(distance < 1)
    assert len(found) > 100, f"no area has the colour {colour}"
    return tuple(found.mean(0))


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_picture_is_small_says_its_point_and_repeats(
    name: str, shown: list[Image]
) -> None:
    assert DRAWINGS[name]() is None
    with matplotlib.rc_context({"lines.linewidth": 9, "figure.facecolor": "black"}):
        DRAWINGS[name]()  # a reader's own settings change nothing
    first, second = shown
    data, metadata = first._repr_mimebundle_()
    assert metadata == {"image/png": {"alt": "A point."}}
    assert base64.b64decode(data["image/png"]) == first.data == second.data
    assert repr(first) == "A point."
    assert len(first.data) < 100_000 and b"Software" not in first.data
    assert pixels(first).shape[1] <= 960 and pixels(first)[0, 0].tolist() == [255] * 3


def test_no_figure_is_left_open(shown: list[Image]) -> None:
    DRAWINGS["lines"]()
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []


def test_attention_rows_are_queries_and_colours_are_shares_from_0_to_1(
    shown: list[Image],
) -> None:
    weights = [[0.25, 0.75], [0.5, 0.125]]
    plots.show_attention(weights, ["a", "b"], values=False, alt="x")
    places = [centre(shown[0], colormaps["Blues"](w)) for w in sum(weights, [])]
    (top, left), (top_too, right), (low, left_too), (low_too, right_too) = places
    assert top == pytest.approx(top_too, abs=1) and low == pytest.approx(low_too, abs=1)
    assert left == pytest.approx(left_too, abs=1)
    assert right == pytest.approx(right_too, abs=1)
    assert top < low and left < right
    assert low - top == pytest.approx(right - left, abs=1)  # square cells


def test_fewer_queries_than_keys_are_the_last_tokens(shown: list[Image]) -> None:
    plots.show_attention(torch.eye(5)[:2], TOKENS, alt="x")
    plots.show_attention(torch.eye(5)[:2], ["on", "it"], TOKENS, alt="x")
    assert shown[0].data == shown[1].data


def test_shares_above_one_and_nan_are_drawn(shown: list[Image]) -> None:
    plots.show_attention([[1.5, math.nan]], ["b"], ["a", "b"], values=False, alt="x")
    over, nan = centre(shown[0], colormaps["Blues"](1.0)), (212, 212, 212)
    assert over[1] < centre(shown[0], np.divide(nan, 255))[1]


@pytest.mark.parametrize(
    "draw, row, colours",
    [
        ("matrix", [0.0, 2.0, 4.0, math.nan], {"Blues": [0.0, 0.5, 1.0]}),
        ("matrix", [2.0, 3.0, 4.0], {"Blues": [0.5, 0.75, 1.0]}),
        ("matrix", [-1.0, 0.0, 4.0, math.inf], {"RdBu_r": [0.375, 0.5, 1.0]}),
        ("text", [0.0, 4.0, math.nan], {"Blues": [0.0, 1.0]}),
        ("text", [-4.0, 0.0, 4.0], {"RdBu_r": [0.0, 0.5, 1.0]}),
    ],
)
def test_the_lightest_colour_is_0_in_every_picture(
    draw: str, row: list[float], colours: dict, shown: list[Image]
) -> None:
    if draw == "matrix":
        plots.show_matrix([row], values=False, alt="x")
    else:
        plots.show_text("abc", row, low_label="", high_label="", alt="x")
    [(name, values)] = colours.items()
    places = [centre(shown[0], colormaps[name](x))[1] for x in values]
    assert places == sorted(places)
    assert sum(colormaps["Blues"](0.0)) > 3.9 and sum(colormaps["RdBu_r"](0.5)) > 3.8


@pytest.mark.parametrize(
    "values, expected",
    [
        ([0.001, 1.0, 10.0], ["0.001", "0.01", "0.1", "1", "10"]),
        ([1e-16, 10.0], "10⁻¹⁶ 10⁻¹⁴ 10⁻¹² 10⁻¹⁰ 10⁻⁸ 10⁻⁶ 10⁻⁴ 10⁻² 10⁰".split()),
        ([20, 90], ["20", "50"]),
    ],
)
def test_the_ticks_of_a_logarithmic_axis_have_one_style(
    values: list[float], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    end = charts._name_ends
    monkeypatch.setattr(
        charts, "_name_ends", lambda ax, ends: (seen.append(ax), end(ax, ends))
    )
    plots.as_png(
        plots.show_lines, {"a": values}, logy=True, xlabel="", ylabel="", alt="x"
    )
    axis, (low, high) = seen[0].yaxis, sorted(seen[0].get_ylim())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    labels = {tick.get_loc(): tick.label1.get_text() for tick in ticks}
    assert [
        labels[at] for at in sorted(labels) if low <= at <= high and labels[at]
    ] == expected


def test_text_colours_stand_in_reading_order(shown: list[Image]) -> None:
    plots.show_text(
        "ab\nc", [0.0, 1.0, math.nan, 0.5], low_label="l", high_label="h", alt="x"
    )
    a, b, nan, c = [
        centre(shown[0], colour)
        for colour in (
            colormaps["Blues"](0.0),
            colormaps["Blues"](1.0),
            [212 / 255] * 3,
            colormaps["Blues"](0.5),
        )
    ]
    assert a[1] < b[1] and b[0] < c[0] and nan[0] < c[0]


def test_text_breaks_after_spaces_and_loses_nothing() -> None:
    text = "word " * 30 + "\n" + "x" * 150 + "\n" + "a bc"
    places = _wrap(text)
    assert len(set(places)) == len(text) and places == sorted(places)
    assert max(column for _, column in places) < WRAP
    starts = [i for i, (_, column) in enumerate(places) if column == 0]
    assert all(text[i - 1] in " \nx" and text[i] in "w\nxa" for i in starts[1:])


def test_names_at_line_ends_stay_apart_and_inside() -> None:
    places = charts._spread([0.5, 0.5, 0.51, 0.99, 1.2, -3.0], [0.1] * 6)
    assert np.diff(sorted(places)).min() > 0.0999
    assert 0 <= min(places) and max(places) <= 1
    assert np.argsort(places, kind="stable").tolist() == [5, 0, 1, 2, 3, 4]
    middle = charts._spread([0.5, 0.5, 0.5], [0.1] * 3)  # none is favoured
    assert np.mean(middle) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "draw, words",
    [
        (
            lambda: plots.show_attention(torch.eye(3), ["a", "b"], alt="x"),
            "got 2 for 3",
        ),
        (lambda: plots.show_attention(torch.ones(3), ["a"], alt="x"), r"shape \(3,\)"),
        (lambda: plots.show_attention(torch.ones(0, 3), [], alt="x"), "empty"),
        (lambda: plots.show_matrix(torch.ones(2, 2, 2, 2), alt="x"), "expected 2"),
        (
            lambda: plots.show_matrix(torch.eye(2), title=["a", "b"], alt="x"),
            "2 titles",
        ),
        (
            lambda: plots.show_lines(
                {"a": ([1], [1, 2])}, xlabel="", ylabel="", alt="x"
            ),
            "got 1 for 2 ys",
        ),
        (
            lambda: plots.show_lines({"a": [math.nan]}, xlabel="", ylabel="", alt="x"),
            "no finite value",
        ),
        (
            lambda: plots.show_lines(
                {"a": [1]}, xlabel="", ylabel="", size="big", alt="x"
            ),
            "expected one of wide",
        ),
        (lambda: plots.show_bars([1, 2, 3], ["a", "b"], alt="x"), "got 3 for 2 labels"),
        (
            lambda: plots.show_text("abc", [1.0], low_label="", high_label="", alt="x"),
            "got 1 for 3 pieces",
        ),
        (lambda: plots.show_matrix(torch.eye(2), alt=" "), "the point of the picture"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_sizes(
    draw: Callable[[], None], words: str, shown: list[Image]
) -> None:
    with pytest.raises(ValueError, match=words):
        draw()
    assert shown == []


def test_tensors_of_any_kind_are_accepted(shown: list[Image]) -> None:
    weights = torch.eye(3, dtype=torch.bfloat16, requires_grad=True)
    plots.show_attention(weights, "abc", alt="x")
    plots.show_attention(weights.tolist(), list("abc"), alt="x")
    assert shown[0].data == shown[1].data


def test_a_line_picture_can_be_saved(tmp_path, shown: list[Image]) -> None:
    plots.show_lines(
        {"a": [1, 2]}, xlabel="x", ylabel="y", alt="x", save=tmp_path / "loss.png"
    )
    assert Pillow.open(tmp_path / "loss.png").size == (600, 300) and shown == []


def test_runs_are_drawn_as_their_mean_and_a_bar_from_lowest_to_highest() -> None:
    ax = Figure().subplots()
    charts._line(ax, 0, "a", ([1, 2], torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])))
    [line, *_], [bars] = ax.lines, ax.collections
    assert line.get_ydata().tolist() == [3.0, 1.0]
    assert [part.tolist() for part in bars.get_segments()] == [
        [[1, 1], [1, 6]],
        [[2, 0], [2, 3]],
    ]


def test_drawings_are_what_their_code_draws_and_say_their_point() -> None:
    code = runpy.run_path(str(FIGURES / "draw.py"))
    files = {path.stem: path.read_bytes() for path in FIGURES.glob("*.svg")}
    assert files == {name: code["svg"](name).encode() for name in code["DRAWINGS"]}
    for name, data in files.items():
        title, desc, ground, *_ = ElementTree.fromstring(data)
        assert len(title.text) > 10 and len(desc.text) > 60, name
        assert ground.get("fill") == "white" and len(data) < 40_000, name
        sizes = [int(n) for n in re.findall(r'font-size="(\d+)"', data.decode())]
        assert min(sizes) >= 18, f"{name} has letters too small for a phone"


def test_the_numbers_above_bars_have_one_format():
    """No 1 beside 0.25; whole numbers stay whole."""
    for values, expected in (
        ([1, 0.25, math.nan], ["1.00", "0.25", "nan"]),
        ([1, 3], ["1", "3"]),
    ):
        text = same_format(np.array(values, dtype=float))
        assert [text(x) for x in values] == expected
