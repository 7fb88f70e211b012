"""The engine of the checks: gates, messages, hints, progress, points, answers."""

import json
import math
import random
import re
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2_lesson import checks
from gpt2_lesson.bench import checks as timing
from gpt2_lesson.checks import Check, diagnosis, hints, registry
from gpt2_lesson.checks.edits import compile_function
from gpt2_lesson.checks.exercise import Answer, Exercise, Mistake
from gpt2_lesson.checks.probing import Probe, observe
from gpt2_lesson.real_gpt2 import to_hf_name

ROOT = Path(__file__).parents[2]


def shifted(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return x + y + 1: the right answer to a small exercise."""
    return x + y + 1


def pairs(g: torch.Generator) -> list[Probe]:
    """Return two probes."""
    x, y = torch.randn(2, 3, 4, generator=g)
    return [
        Probe("random", (x, y), sizes={"B": 3, "C": 4}),
        Probe("x is 0", (torch.zeros(2, 4), torch.ones(2, 4))),
    ]


TOY = Check(
    Exercise(
        "toy",
        "99",
        "toy(x, y) -> (B, C)",
        make_probes=pairs,
        mistakes=(
            Mistake(
                "Z1",
                "the 1 forgotten",
                "too small by 1",
                "What is added?",
                "the end",
                "+ 1",
                edit=(" + 1", ""),
            ),
            Mistake(
                "Z2",
                "x doubled",
                "too far",
                "How often is x there?",
                "the start",
                "x",
                edit=("return x", "return 2 * x"),
            ),
            Mistake(
                "Z3",
                "the 1 forgotten, written otherwise",
                "too small",
                "?",
                "!",
                "+ 1",
                edit=("+ 1", "+ 0"),
            ),
        ),
        axes={"x": "B C", "y": "B C", "": "B C"},
        hints=("general idea", "general place", "general line"),
        solution="def toy(x, y):\n    return x + y + 1",
    )
)


@pytest.fixture(autouse=True)
def _progress(tmp_path, monkeypatch) -> None:
    """Keep progress in a folder of the test's own, and add three exercises."""
    monkeypatch.setenv("GPT2_LESSON_PROGRESS", str(tmp_path / "p" / "progress.json"))
    monkeypatch.setattr(hints, "_memory", {})
    known = checks.all_exercises() | {
        one.name: one.exercise for one in (TOY, NUMBER, GUESS)
    }
    monkeypatch.setattr(registry, "all_exercises", lambda: known)
    monkeypatch.setitem(hints.SETS, "99.1", ("99.1",))
    monkeypatch.setitem(hints.SETS, "99.2", ("toy", "99.2"))
    monkeypatch.setitem(hints.SETS, "99.3", ())


NUMBER = Check(
    Answer(
        "99.1",
        "how many?",
        124,
        wrong=(
            (
                163,
                Mistake(
                    "W1",
                    "the head counted twice",
                    "39 too many",
                    "Who shares?",
                    "the head",
                    "124",
                ),
            ),
        ),
    )
)
GUESS = Check(Answer("99.2", "guess", lambda: [0.5, 0.25], rtol=0.01, predict=True))


def empty(x, y):
    """Only a docstring."""


def unwritten(x, y):
    raise NotImplementedError("write me")


@pytest.mark.parametrize("function", [None, ..., empty, unwritten, lambda x, y: None])
def test_what_is_not_written_is_met_calmly(function) -> None:
    report = TOY(function)
    assert report.state == "not written" and report.score(4) == 0
    assert str(report).splitlines() == [
        "[ ... ] toy: not written yet",
        "    Write toy(x, y) -> (B, C).",
    ]


class _Layer:
    def __init__(self, *args) -> None:
        pass


class _Stop(BaseException):
    pass


async def _coroutine(x, y):
    return x


def _raising(error: type[BaseException]):
    def function(x, y):
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (
            lambda x, y: x @ y,
            [
                'crashed on "random"',
                "input     x (3, 4), y (3, 4)",
                "RuntimeError: mat1 and mat2",
                "transposed",
            ],
        ),
        (lambda x, y: print("hi"), ["it returns None", "return", "hi"]),
        (lambda x, y: (x, y), ["it returns a tuple of 2", "return the result alone"]),
        (lambda x, y: 3.0, ["it returns the float 3.0"]),
        (
            lambda x, y: (x + y + 1).T,
            [
                "it returns (C, B) = (4, 3), expected (B, C) = (3, 4)",
                "in another order",
            ],
        ),
        (lambda x, y: (x + y + 1).long(), ["it returns numbers of torch.int64"]),
        (lambda x, y: x.add_(y) + 1, ["changes its input x"]),
        (lambda x, y: x + y + torch.rand(1), ["two calls", "it uses random numbers"]),
        (lambda x: x, ["positional argument", "by position"]),
        (lambda x, y: x + z, ["NameError", "never set"]),  # noqa: F821
        (lambda x, y: x / 0 + y, ["there is nan"]),
        (lambda x, y: x ^ y, ["NotImplementedError", "not implemented for 'Float'"]),
        (lambda x, y: math.tanh(x), ["torch has the same one for tensors"]),
        (lambda x, y: x.softmax() + y, ["TypeError: softmax() received"]),
        (lambda x, y: (x + y).sum(), ["a tensor of one number, without axes"]),
        (3, ["an int came, expected a function", "without brackets"]),
        ("toy", ["a str came, expected a function", "without quotes"]),
        (random, ["a module came, expected a function"]),
        (_Layer, ["the class _Layer came, expected a function"]),
        (
            lambda x: x + 1,
            ["TypeError", "in the order in which the exercise names them"],
        ),
        (_coroutine, ["it returns a coroutine"]),
        (_raising(SystemExit), ["SystemExit"]),
        (_raising(KeyboardInterrupt), ["KeyboardInterrupt"]),
        (_raising(_Stop), ["_Stop"]),
    ],
)
def test_the_gates_say_what_is_wrong(function, said: list[str]) -> None:
    report = TOY(function)
    assert not report.passed and not report.matches
    for words in said:
        assert words in str(report)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x, y: x + 1, "when `y` changes"),
        (
            lambda x, y: x.flip(0) + y + 1,
            "example 2 of `x` changes your result for example 0",
        ),
        (lambda x, y: 3 * (x + y + 1), "3 times the expected one"),
        (lambda x, y: -(x + y + 1), "-1 times the expected one"),
        (lambda x, y: x + y + 1.5, "the expected one plus 0.5"),
        (lambda x, y: torch.cat([x[:1] + y[:1] + 2, x[1:] + y[1:] + 1]), "those at 0"),
        (lambda x, y: 0 * x, "0 everywhere"),
    ],
)
def test_what_matches_nothing_is_measured(function, said: str) -> None:
    report = TOY(function)
    assert not report.matches
    assert any(said in clue.text for clue in report.clues), report.clues


def test_single_mistakes_pairs_and_doubt() -> None:
    assert "Z2" in {m.id for m in TOY(lambda x, y: 2 * x + y + 1).matches[0]}
    doubt = TOY(lambda x, y: x + y)  # two entries do the same
    assert len(doubt.matches) == 2 and doubt.named.startswith("one of: ")
    both = TOY(lambda x, y: 2 * x + y)
    assert all(len(match) == 2 for match in both.matches)
    assert "two at once: the 1 forgotten; and x doubled" in both.named


def test_two_errors_of_one_class_are_not_one_mistake() -> None:
    """Both add 2 where x is 0; elsewhere each has an IndexError of its own."""
    check = Check(
        replace(
            TOY.exercise,
            mistakes=(replace(TOY.mistakes[0], edit=(" + 1", " + [2][int(x.any())]")),),
        )
    )
    assert check(lambda x, y: x + y + [2][int(x.any())]).matches
    assert not check(lambda x, y: x + y + (ord("2"[1]) if x.any() else 2)).matches


def test_a_mistake_is_added_in_three_lines() -> None:
    """Those that CONTRIBUTING.md shows are enough for a name and all hints."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    (shown,) = re.findall(r"(?ms)^    (Mistake\(.*?\),)$", text)
    (mistake,) = eval(shown, {"Mistake": Mistake})
    known = checks.attention.mistakes
    check = Check(
        replace(
            checks.attention.exercise,
            mistakes=(*(one for one in known if one.id != mistake.id), mistake),
        )
    )

    def by_tokens(q, k, v):
        return (q @ k.mT / q.shape[1] ** 0.5).softmax(-1) @ v

    assert len(shown.splitlines()) == 3 and len(check.mistakes) == len(known)
    assert check(by_tokens).named == mistake.name
    assert all(check.hints_for(mistake))


def test_a_name_must_hold_on_fresh_inputs() -> None:
    """A function that imitates a mistake on the first probes alone gets no name."""
    known = {tuple(p.args[0].flatten().tolist()) for p in TOY.probes(0)}

    def sly(x, y):
        return x + y if tuple(x.flatten().tolist()) in known else x - y

    assert not TOY(sly).matches


def test_nothing_outside_is_touched(capfd) -> None:
    def loud(x, y):
        torch.manual_seed(5)
        random.seed(5)
        np.random.seed(5)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(torch.get_num_threads() + 1)
        warnings.warn("warning", stacklevel=1)
        print("error", file=sys.stderr)
        return x + y + 1

    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    threads = torch.get_num_threads()
    assert TOY(loud).passed and torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_num_threads() == threads
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())
    assert capfd.readouterr() == ("", "")


GLOBALS = {
    "default dtype": lambda: torch.set_default_dtype(torch.bfloat16),
    "default device": lambda: torch.set_default_device("meta"),
    "no gradients": lambda: torch.set_grad_enabled(False),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "matmul": lambda: torch.set_float32_matmul_precision("medium"),
    "threads": lambda: torch.set_num_threads(3),
    "NumPy raises": lambda: np.seterr(all="raise"),
    "seeds": lambda: (torch.manual_seed(5), random.seed(5), np.random.seed(5)),
}


def _globals() -> dict[str, object]:
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "anomaly": torch.is_anomaly_enabled(),
        "numpy": np.geterr(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "matmul": torch.get_float32_matmul_precision(),
        "seeds": (
            torch.get_rng_state().tolist(),
            random.getstate(),
            np.random.get_state()[1].tolist(),
        ),
    }


@pytest.fixture
def _globals_again():
    """Put all_exercises back that a test of the globals sets."""
    from gpt2_lesson.checks.probing import neutral

    with neutral():
        yield
        torch.set_default_device(None)


@pytest.mark.parametrize("name", GLOBALS)
def test_the_learners_globals_neither_judge_nor_are_lost(
    name: str, _globals_again
) -> None:
    """A check sets what it depends on, and puts the learner's back, even on an error.

    Probes and expected results are made anew under the learner's globals.
    """
    fresh = Check(replace(TOY.exercise, make_probes=lambda g: pairs(g)))
    GLOBALS[name]()
    before = _globals()
    assert fresh(shifted).passed
    assert fresh(lambda x, y: 2 * x + y + 1).matches[0][0].id == "Z2"
    assert checks.answer("99.2", [0.5, 0.25]).passed
    assert checks.attention(
        lambda q, k, v: (q @ k.mT / q.size(-1) ** 0.5).softmax(-1) @ v
    ).passed
    assert _globals() == before

    def changes(x, y):
        for change in GLOBALS.values():
            change()
        raise ValueError

    assert "ValueError" in str(fresh(changes)) and _globals() == before


def test_inference_mode_does_not_reach_a_check() -> None:
    with torch.inference_mode():
        assert checks.attention(
            lambda q, k, v: (q @ k.mT / q.size(-1) ** 0.5).softmax(-1) @ v
        ).passed
        assert torch.is_inference_mode_enabled()


def test_the_same_report_every_time() -> None:
    texts = {str(TOY(lambda x, y: 2 * x + y - 0.3)) for _ in range(3)}
    assert len(texts) == 1


def test_hints_open_one_level_for_each_changed_attempt() -> None:
    assert str(checks.hint("toy")).startswith("Write toy(x, y) -> (B, C).\nTo begin: ")
    TOY(lambda x, y: 2 * x + y + 1)
    assert "How often is x there?" in str(checks.hint("toy"))
    assert "the start" not in str(checks.hint("toy"))  # nothing changed in between
    TOY(lambda x, y: 2 * x + y + 1)  # the same behaviour again
    assert "the start" not in str(checks.hint("toy"))
    assert "opens when" in str(checks.solution("toy"))
    TOY(lambda x, y: x + y + 7)  # another one, without a name: anew
    assert str(checks.hint("toy")).startswith("general idea\nChange something")
    TOY(lambda x, y: x + y + 8)
    assert "general place" in str(checks.hint("toy"))
    TOY(lambda x, y: x + y + 9)
    assert "general line" in str(checks.hint("toy"))
    assert "def toy" in str(checks.solution("toy"))  # all hints are open


@pytest.mark.parametrize("number", hints.SETS)
def test_every_exercise_has_a_first_hint_by_its_number_and_no_solution_yet(
    number: str,
) -> None:
    said = str(checks.hint(number))
    if not hints.SETS[number]:
        assert "read by a person" in said + str(checks.solution(number))
        return
    (first, *_) = (checks.all_exercises()[name] for name in hints.SETS[number])
    assert first.task in said and first.hints[0] in said
    for rest in (*first.hints[1:], first.solution):
        assert rest not in said
    assert str(checks.hint(number)) == said  # asking again opens nothing
    assert str(checks.solution(number)).count("opens when") == len(hints.SETS[number])


def test_a_number_means_the_check_that_failed_last() -> None:
    assert str(checks.hint("99.2")).startswith("toy:\nWrite toy")
    GUESS([1.0, 0.0])
    assert str(checks.hint("99.2")).startswith("99.2:\n")
    TOY(lambda x, y: 2 * x + y + 1)
    assert str(checks.hint("99.2")).startswith("toy:\nHow often")
    TOY(shifted)
    assert str(checks.hint("99.2")).startswith("99.2:\n")


def test_hints_go_on_after_a_restart() -> None:
    TOY(lambda x, y: 2 * x + y + 1)
    checks.hint("toy")
    TOY(lambda x, y: 2 * x + y + 1)
    code = (
        "from gpt2_lesson import checks; from gpt2_lesson.checks import registry; "
        "import sys; sys.path.insert(0, 'tests/checks'); "
        "import test_checks as t; "
        "registry.all_exercises = lambda: {'toy': t.TOY.exercise}; "
        "print(checks.hint('toy')); "
        "t.TOY(lambda x, y: 2 * x + y + 1.0001); print(checks.hint('toy'))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        text=True,
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    assert found.stdout.startswith("How often is x there?\nChange something")


def test_a_version_to_repair_has_hints_from_the_start(monkeypatch) -> None:
    repair = Check(TOY.to_repair("toy_to_repair", "Z2"))
    known = checks.all_exercises() | {"toy_to_repair": repair.exercise}
    monkeypatch.setattr(registry, "all_exercises", lambda: known)
    report = repair(lambda x, y: 2 * x + y + 1)
    assert "not repaired yet" in str(report) and "doubled" not in str(report)
    assert "How often is x there?" in str(checks.hint("toy_to_repair"))
    repair(lambda x, y: 2 * x + y + 1)  # unchanged: no attempt
    assert "the start" not in str(checks.hint("toy_to_repair"))
    for k in range(2):  # changed, with the same results
        repair(
            compile_function(f"def toy(x, y):\n    return 2*x + y + 1 + 0*x*{k}", {})
        )
        assert "the start" in (said := str(checks.hint("toy_to_repair")))
    assert said.startswith("How often is x there?\nthe start\nx\nA whole solution")
    assert "def toy_to_repair" in str(checks.solution("toy_to_repair"))


def test_the_solution_opens_after_success() -> None:
    TOY(shifted)
    assert "def toy" in str(checks.solution("toy"))
    assert "is right" in str(checks.hint("toy"))


def test_progress_survives_a_bad_file_and_a_folder_that_cannot_be_written(
    monkeypatch,
) -> None:
    TOY(shifted)
    TOY(lambda x, y: x)
    entry = json.loads(hints.file().read_text())["exercises"]["toy"]
    assert entry["done"] and entry["tries"] == 2  # once right stays right
    assert "(x) 99.2 toy" in str(checks.progress())
    for text in (
        "",
        "{",
        "[]",
        '{"exercises": 3}',
        '{"exercises": {"toy": 3}}',
        '{"exercises": {"toy": {"tries": "x", "hint_level": null}}}',
        '{"exercises": {"toy": {"fingerprint": "a", "about": [3]}}}',
    ):
        hints.file().write_text(text)
        assert str(checks.hint("toy")) and str(checks.solution("toy"))
        assert ") 99.2 toy" in str(checks.progress())
        assert TOY(shifted).passed
    monkeypatch.setenv("GPT2_LESSON_PROGRESS", "/dev/null/progress.json")
    assert TOY(shifted).passed and "(x) 99.2 toy" in str(checks.progress())


def test_two_notebooks_at_once_lose_nothing() -> None:
    """Four processes note 20 reports each; all 80 are kept."""
    code = (
        "import sys; from gpt2_lesson.checks import hints\n"
        "for i in range(20):\n"
        "    with hints.changing() as entries:\n"
        "        entries[f'{sys.argv[1]}-{i}'] = {'tries': 1}"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(i)]) for i in range(4)]
    assert [one.wait() for one in running] == [0] * 4
    assert len(hints.load()) == 80


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(KeyError, match="causal_attention"):
        checks.hint("causal_atention")
    with pytest.raises(AttributeError, match="nearest: .*attention"):
        checks.atention  # noqa: B018
    with pytest.raises(KeyError, match="08.2"):
        checks.hint("08.22")
    with pytest.raises(TypeError, match=r"one value: checks.attention\(...\)"):
        checks.answer("attention", 3)
    with pytest.raises(TypeError, match=r'count_parameters.*"07.2a".*"07.2b"'):
        checks.answer("07.2", 3)


def test_points_and_the_teachers_settings(monkeypatch, capsys) -> None:
    wrong = TOY(lambda x, y: 2 * x + y + 1)
    assert (TOY(shifted).points(4), wrong.points(4)) == (4, 0)
    line = "[not yet] toy behaves like this known mistake: x doubled"
    assert line in capsys.readouterr().out
    monkeypatch.setattr(checks.settings, "partial", 0.5)
    assert wrong.score(4) == 2 and wrong.score(3) == 1.5
    assert TOY(lambda x, y: 2 * x + y).score(4) == 0  # two mistakes
    assert TOY(lambda x, y: x + y).score(4) == 0  # "one of" is no name
    monkeypatch.setattr(checks.settings, "mode", "exam")
    assert "doubled" not in str(wrong) and "off by up to" in str(wrong)
    assert "doubled" not in wrong._repr_html_() and "too far" not in str(wrong)
    assert "no hints" in str(checks.hint("toy"))
    crashed = str(TOY(lambda x, y: x @ y))
    assert "mat1 and mat2" in crashed and "transposed" not in crashed
    for bad in ({"partial": 2}, {"mode": "secret"}, {"colour": 1}):
        with pytest.raises((ValueError, AttributeError)):
            setattr(checks.settings, *bad.popitem())
    with pytest.raises(ValueError, match="points out of -1"):
        wrong.score(-1)


def test_require_raises_the_report() -> None:
    TOY(shifted).require()
    with pytest.raises(AssertionError, match="this known mistake: x doubled"):
        TOY(lambda x, y: 2 * x + y + 1).require()


def test_html_says_the_same_and_runs_nothing() -> None:
    def evil(x, y):
        print("<script>alert(1)</script>")
        raise ValueError("<img src=x onerror=alert(1)>")

    page = TOY(evil)._repr_html_()
    assert "<script" not in page and "<img" not in page and "&lt;img" in page
    assert "x doubled" in TOY(lambda x, y: 2 * x + y + 1)._repr_html_()


def test_answers_compare_as_people_do() -> None:
    for value in (124, 124.0, torch.tensor(124), np.int64(124)):
        assert NUMBER(value).passed, value
    for value in (None, ...):
        assert NUMBER(value).state == "not written"
    for value in (123, "124", [124], True, float("nan"), 10**400, object()):
        assert not NUMBER(value).passed, value
    assert NUMBER(163).matches[0][0].id == "W1"
    assert "124" not in str(NUMBER(163)).replace("99.1", "")
    assert GUESS((0.501, 0.2499)).passed and not GUESS([0.52, 0.25]).passed
    assert GUESS(torch.tensor([0.5, 0.25])).passed


def test_an_answer_of_several_parts_says_which_are_right() -> None:
    said = str(GUESS([0.5, 0.9]))
    assert "right: entry 0; not yet: entry 1" in said and "0.25" not in said
    assert "expected a list of 2" in str(GUESS("half")) + str(GUESS([1, 2, 3]))


def test_lists_of_tensors_are_compared_place_by_place() -> None:
    """Gradients are such lists: a wrong one must not stop the check."""
    scaled = checks.attention(lambda q, k, v: ((q @ k.mT) / 2).softmax(-1) @ v)
    assert not scaled.passed and scaled.clues


def test_the_first_prediction_is_kept_but_in_an_exam(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not GUESS([1.0, 0.0]).passed
    assert "Correct. (You first predicted [1.0, 0.0].)" in str(GUESS([0.5, 0.25]))
    monkeypatch.setattr(checks.settings, "mode", "exam")
    assert "first predicted" not in str(GUESS([0.5, 0.25]))


def test_probing_can_be_imported_without_any_answer() -> None:
    """What runs beside a learner's code must not load a reference."""
    code = (
        "import sys; sys.modules['gpt2_lesson.checks'] = type(sys)('checks'); "
        "sys.modules['gpt2_lesson.checks'].__path__ = [sys.argv[1]]; "
        "import gpt2_lesson.checks.probing, gpt2_lesson.checks.fakes as s, "
        "pkgutil, importlib; "
        "[importlib.import_module(s.__name__ + '.' + m.name) "
        "for m in pkgutil.iter_modules(s.__path__)]; "
        "print([m for m in sys.modules if 'exercises' in m or 'components' in m "
        "or 'answers' in m or m.endswith(('diagnosis', 'checks.exercise'))])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, checks.__path__[0]],
        text=True,
        capture_output=True,
        check=True,
    )
    assert found.stdout.strip() == "[]"


def test_observe_sees_what_happened() -> None:
    seen = observe(lambda x, y: x.add_(1), Probe("p", (torch.ones(2), torch.ones(2))))
    assert seen.changed == (0,) and seen.repeats and seen.value.tolist() == [2.0, 2.0]


class _Odd:
    def __repr__(self) -> str:
        raise ValueError("no text")


def _late(x, y):
    if not x.any():
        raise NotImplementedError
    return x + y + 1


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x, y: (x + y).numpy(), "it returns a numpy array, expected a tensor"),
        (lambda x, y: (row for row in x), "it returns a generator, expected a tensor"),
        (lambda x, y: len, "it returns a builtin_function_or_method"),
        (lambda x, y: _Odd(), "it returns a _Odd"),
        (lambda x, y: x + y + 0j, "a complex, sparse, nested or"),
        (lambda x, y: x > y, "numbers of torch.bool"),
        (lambda x, y: (x + y).to_sparse(), "nested or quantized tensor came"),
        (lambda x, y: torch.zeros(1000, 1000), "it returns (1000, 1000)"),
        (lambda x, y: 1 / 0 if x.any() else x, "ZeroDivisionError: division by zero"),
        (_late, "not written yet"),
    ],
)
def test_whatever_comes_back_a_true_report_is_made(function, said: str) -> None:
    report = TOY(function)
    text = str(report)
    assert not report.passed and said in text and "two calls" not in text
    assert text == str(TOY(function)) and " at 0x" not in text


@pytest.mark.parametrize(
    ("right", "others"),
    [
        (3, (3.0, torch.tensor(3), torch.tensor(3.0), np.int64(3), np.array(3.0))),
        (0.5, (np.float32(0.5), torch.tensor(0.5), np.array(0.5))),
        (2.0, (2, torch.tensor(2))),
        (True, (np.bool_(True), torch.tensor(True))),
    ],
)
def test_a_number_is_judged_by_its_value(right: object, others: tuple) -> None:
    one = Check(
        replace(
            TOY.exercise,
            solution="def toy(x, y):\n    return right",
            names={"right": right},
            mistakes=(),
        )
    )
    for value in (right, *others):
        assert one(lambda x, y, value=value: value).passed, repr(value)
    for value in (None, "3", [right], torch.tensor([1, 2]), 7, float("nan"), 10**400):
        assert not one(lambda x, y, value=value: value).passed, repr(value)


def test_a_pair_is_judged_by_its_result_where_the_lesson_returns_one() -> None:
    from gpt2_lesson.attention import attention as lesson

    assert checks.attention(lesson).passed
    wrong = checks.attention(lambda q, k, v: ((q @ k.mT).softmax(-1) @ v, q))
    assert wrong.matches[0][0].id == "A1"
    pair = str(TOY(lambda x, y: (x + y + 1, x)))
    assert "it returns a tuple of 2" in pair and "[None" not in pair


def test_the_shortest_failing_input_is_shown_and_can_be_had() -> None:
    report = TOY(lambda x, y: 2 * x + y + 1 if x.any() else x)
    assert "x is 0:" in report.table[0]
    rows = [str([[number] * 4] * 2) for number in (0.0, 1.0)]
    assert report.given == [f"input     x = {rows[0]}, y = {rows[1]}"]
    assert 'checks.inputs("toy", 0)' in str(TOY(lambda x, y: 2 * x + y + 1))
    x, y = checks.inputs("toy", 0)
    probe = TOY.probes(0)[0]
    assert torch.equal(x, probe.args[0]) and x is not probe.args[0]
    for name, number, error in (("toy", 9, IndexError), ("99.1", 0, KeyError)):
        with pytest.raises(error):
            checks.inputs(name, number)


def test_a_difference_is_shown_with_as_many_digits_as_it_takes() -> None:
    from gpt2_lesson.checks.report import rows_of

    x = torch.ones(9, 3)
    late = x.clone()
    late[7, 1] = 1.0002
    for pair in (
        (x, late),
        (3.0, 3.00000001),
        ("a" * 300, "a" * 299 + "b"),
        ([x, None], [x, late]),
        ([x, late], [x, x]),
        ({"a": 1}, {"a": 2}),
    ):
        yours, expected = (
            part.splitlines() for part in "\n".join(rows_of(*pair)).split("expected")
        )
        assert yours != expected and len(yours) == len(expected)


def test_the_first_hint_fits_what_was_measured() -> None:
    """A wrong scale is not asked about the sums of its rows, which are right."""
    checks.attention(lambda q, k, v: (q @ k.mT / 3.3).softmax(-1) @ v)
    first = str(checks.hint("01.2")).splitlines()[0]
    assert "scores divided" in first and "add up" not in first


def test_a_list_of_numpys_numbers_counts_as_numbers() -> None:
    def rate(step, steps, max_lr, warmup_steps, min_lr):
        if step < warmup_steps:
            return np.float32(max_lr * (step + 1) / warmup_steps)
        done = min(1.0, (step - warmup_steps) / (steps - warmup_steps))
        return np.float32(min_lr + (max_lr - min_lr) * (1 + np.cos(np.pi * done)) / 2)

    assert checks.learning_rate(rate).passed
    assert "expected a number" in str(checks.learning_rate(lambda *_: "x"))


def test_memory_that_is_not_set_is_not_called_chance() -> None:
    calls = iter(range(1000))
    said = str(TOY(lambda x, y: x + y + 1 + next(calls)))
    assert "memory that was never set" in said and "draws" not in said


def test_a_clue_that_raises_is_an_error_here_and_left_out_elsewhere(
    monkeypatch,
) -> None:
    broken = Check(replace(TOY.exercise, read_out=lambda run, g: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        broken(lambda x, y: x - y)
    monkeypatch.setattr(diagnosis, "strict", False)
    assert broken(lambda x, y: x - y).state == "wrong"


def test_points_say_what_they_are_out_of_and_stay_a_number(capsys) -> None:
    points = TOY(shifted).points(4)
    assert points == 4 and repr(points) == "4" and float(repr(points)) == 4
    assert points._repr_html_() == "<span>4 of 4 points</span>"


def test_numbers_of_numpy_count_as_numbers() -> None:
    probe = Probe("p", (torch.ones(2),))
    assert type(observe(lambda x: np.int64(3), probe).value) is int
    assert type(observe(lambda x: np.float32(3), probe).value) is float


def test_odd_letters_of_an_error_can_be_shown() -> None:
    def odd(x, y):
        print("\x1b[31mred")
        raise ValueError("\ud800 \x00")

    for text in (str(TOY(odd)), TOY(odd)._repr_html_()):
        assert text.encode() and "\\ud800 \\x00" in text and "\x1b" not in text


def test_the_numbers_shown_are_those_that_differ() -> None:
    from gpt2_lesson.checks.report import rows_of

    wanted = torch.arange(9.0).view(1, 9)
    yours = wanted.clone()
    yours[0, 7] = 50
    assert rows_of(yours, wanted) == [
        "yours    ...       5       6      50       8",
        "expected ...       5       6       7       8",
    ]
    assert rows_of(3, wanted) == []
    in_place = TOY(lambda x, y: x.add_(y).sub_(y) * 0 + x.add_(1) + y)
    assert in_place.table == [] and "changes its input" in str(in_place)


def test_axes_are_named_only_where_their_sizes_tell_them_apart() -> None:
    from gpt2_lesson.checks.clues import _shape

    probe = Probe("p", (), sizes={"L": 1, "B": 2, "T": 5})
    assert _shape(torch.ones(2, 5), probe) == "(B, T) = (2, 5)"
    assert _shape(torch.ones(5), probe) == "(T,) = (5,)"
    assert _shape(torch.ones(2, 1, 5), probe) == "(2, 1, 5)"  # L, or one token?


def test_the_bench_finds_a_slow_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slowly(x, y):
        time.sleep(0.02)
        return shifted(x, y)

    slow = replace(
        TOY.exercise,
        name="slow",
        names={"shifted": slowly},
        solution="def slow(x, y):\n    return shifted(x, y)",
        mistakes=(),
    )
    monkeypatch.setattr(timing, "all_exercises", lambda: {"slow": slow})
    assert timing.time_checks(rounds=1, limit=600) == 0
    assert "the slowest (slow) 0." in capsys.readouterr().out
    assert timing.time_checks(rounds=1, limit=0.02) == 1


# What the last hint of each version to repair asks for: the line, and its repair.
REPAIRS = {
    "attention": ("torch.softmax(scores, dim=1)", "scores.softmax(-1)"),
    "causal_attention": (
        "scores.masked_fill(future, -torch.inf)",
        "scores = scores.masked_fill(future, -torch.inf)",
    ),
    "multi_head_attention": (
        "mixed.reshape(B, T, C)",
        "mixed.transpose(1, 2).reshape(B, T, C)",
    ),
    "gelu": ("cube = 0.44715 * torch.pow(x, 3)", "cube = 0.044715 * torch.pow(x, 3)"),
    "block": (
        "x = ln_attn(x)\n    x = x + attn(x)\n    x = ln_mlp(x)\n"
        "    x = x + mlp(x)\n    return x",
        "x = x + attn(ln_attn(x))\n    return x + mlp(ln_mlp(x))",
    ),
    "next_probabilities": (
        "last = min(top_k, logits.size(-1) - 1)",
        "last = min(top_k, logits.size(-1)) - 1",
    ),
    "fit": ("optimizer.zero_grad()", "model.train()\n        optimizer.zero_grad()"),
    "decode": (
        '"".join(tokens[i].decode("utf-8") for i in ids)',
        'b"".join(tokens[i] for i in ids).decode("utf-8", errors="replace")',
    ),
    "fill_model": (
        "if values.shape != p.shape:",
        'if name.endswith("proj.weight"):',
    ),
    "generate_cached": (
        "start += input_ids.size(1)\n",
        "start = ids.size(1)\n",
    ),
    "count_once": (
        "found.append(part[-new:])",
        "found.append(part[-new:])\n        done = start + len(part)",
    ),
    "gradient_norm": (
        "return sum(square**0.5 for square in squares)",
        "return sum(squares) ** 0.5",
    ),
    "merge_adapters": (
        "layer.linear.weight += update",
        "layer.linear.weight += update\n"
        "                setattr(model, name, layer.linear)",
    ),
    "improve": (
        "for _ in range(steps):\n        log_probs = policy.log_probs()\n"
        "        old = log_probs.detach()",
        "old = policy.log_probs().detach()\n    for _ in range(steps):\n"
        "        log_probs = policy.log_probs()",
    ),
}


def given_to_repair() -> dict[str, str]:
    """Return the versions that the problem sets hand out, {exercise: source}."""
    found = {}
    for file in sorted((ROOT / "notebooks/exercises").glob("*/*.ipynb")):
        for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            for name in re.findall(r"^def (\w+)_to_repair\(", source, re.M):
                found[name] = source
    return found


def test_there_is_a_repair_for_each_version_that_is_handed_out() -> None:
    assert given_to_repair().keys() == REPAIRS.keys()


@pytest.mark.parametrize("name", REPAIRS)
def test_the_last_hint_repairs_the_version_that_is_handed_out(name: str) -> None:
    given, (line, repaired) = given_to_repair()[name], REPAIRS[name]
    check = getattr(checks, f"{name}_to_repair")
    names = {"to_hf_name": to_hf_name}
    assert check(compile_function(given, names)).state == "not written"
    assert given.count(line) == 1
    old = [one.strip() for one in line.splitlines()]
    new = [one for one in map(str.strip, repaired.splitlines()) if one not in old]
    assert new and all(one in check.exercise.hints[2] for one in new)
    mended = compile_function(given.replace(line, repaired), names)
    assert check(mended).passed


def test_another_text_beside_the_same_numbers_is_another_attempt() -> None:
    def said(letters: str) -> str:
        checks.answer("11.5", [([1.0], letters), ([2.0], "b"), ([3.0], "c")])
        return str(checks.hint("11.5"))

    first = said("a")
    assert said("a") == first
    assert len({first, said("aa"), said("aaa")}) == 3
