"""How the package is built: who imports whom, and how long its parts are.

`python tests/test_structure.py` prints the figures.
"""

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gpt2_lesson"
LESSONS = [path.stem[3:] for path in sorted(PACKAGE.parent.glob("notebooks/*.ipynb"))]
LEAVES = {"validation", "files", "interrupts", "renamed", "vocabulary_files"}
FILES_OF_MODELS = {"checkpoints", "model_files", "adapter_files"}  # after lesson 07
MODEL = [
    "attention",
    "causal_masking",
    "multi_head",
    "feed_forward",
    "layer_norm",
    "gpt2_model",
]
# Each part imports only parts before it.
PARTS = [
    "lessons",
    "corpora",
    "plots",
    "widgets",
    "checks",
    "authoring",
    "classroom",
    "runs",
    "bench",
    "cli",
]
COMMANDS = sorted((PACKAGE / "cli").glob("*.py"))
MODULES = [
    PACKAGE / f"{name}.py" for name in LESSONS if (PACKAGE / f"{name}.py").exists()
]


def name_of(path: Path) -> str:
    """Return a module's name: "checks.report", "attention", "cli"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path, late: bool = False) -> Iterator[str]:
    """Yield the modules of the package that a module imports, `late` ones too.

    Late are those inside functions; those for type checkers alone are left out.
    """
    known = {name_of(one) for one in PACKAGE.rglob("*.py")}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typed = {
        id(node)
        for part in ast.walk(tree)
        if isinstance(part, ast.If) and "TYPE_CHECKING" in ast.dump(part.test)
        for node in ast.walk(part)
    }
    inside = {
        id(node)
        for part in ast.walk(tree)
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(part)
    }
    for node in ast.walk(tree):
        if id(node) in typed or (not late and id(node) in inside):
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = "gpt2_lesson." * (node.level == 1) + (node.module or "")
            start = start.rstrip(".")
            names = [f"{start}.{alias.name}" for alias in node.names]
            modules = [name.removeprefix("gpt2_lesson.") in known for name in names]
            names += [start] * (not all(modules))
        else:
            continue
        for name in names:
            if name.removeprefix("gpt2_lesson.") in known - {""}:
                yield name.removeprefix("gpt2_lesson.")


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each function of a module with its number of lines, without its docstring.

    Empty lines don't count.
    """
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            kept = set(range(node.lineno, node.end_lineno + 1))
            for part in ast.walk(node):
                body = getattr(part, "body", None)
                if (
                    isinstance(part, ast.FunctionDef | ast.ClassDef)
                    and isinstance(body[0], ast.Expr)
                    and isinstance(body[0].value, ast.Constant)
                ):
                    kept -= set(range(body[0].lineno, body[0].end_lineno + 1))
            count = sum(bool(lines[i - 1].strip()) for i in kept)
            kind = "class " if isinstance(node, ast.ClassDef) else ""
            yield f"{kind}{node.name}", count


def code_lines(path: Path) -> list[str]:
    """Return the lines of a module that hold code."""
    text = path.read_text(encoding="utf-8")
    kept = set(range(1, text.count("\n") + 2))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            kept -= set(range(node.lineno, node.end_lineno + 1))
    return [
        line
        for i, line in enumerate(text.splitlines(), 1)
        if i in kept and line.strip() and not line.strip().startswith("#")
    ]


def raising(path: Path) -> int:
    """Return how many lines belong to an `if ...: raise`."""
    count = 0
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.If) and isinstance(node.body[0], ast.Raise):
            count += node.body[0].end_lineno - node.lineno + 1
    return count


# "# (B, T, C)", "# (..., Tq, 1) sum", "# weight (3C, C)": an axis's letter in brackets.
SHAPE = re.compile(r"#.*\((?:[^()]*[ ,])?3?[BTCHDVLFN][qkv]?[,)+ ]")


def figures() -> dict[str, float]:
    """Return what is measured of the lessons' modules and of checks."""
    sizes = [
        n
        for path in MODULES
        for name, n in functions(path)
        if not name.startswith("class")
    ]
    lines = sum(len(code_lines(path)) for path in MODULES)
    model = [line for name in MODEL for line in code_lines(PACKAGE / f"{name}.py")]
    return {
        "function lines, median": statistics.median(sizes),
        "function lines, 90th percentile": statistics.quantiles(sizes, n=10)[-1],
        "function lines, most": max(sizes),
        "if ...: raise, share of the lines": sum(map(raising, MODULES)) / lines,
        "shape comments per 100 lines of the model": 100
        * sum(bool(SHAPE.search(line)) for line in model)
        / len(model),
        "MultiHeadAttention": dict(functions(PACKAGE / "multi_head.py"))[
            "class MultiHeadAttention"
        ],
        "generate": dict(functions(PACKAGE / "generation.py"))["generate"],
        "lines of checks": sum(
            path.read_text(encoding="utf-8").count("\n")
            for path in (PACKAGE / "checks").rglob("*.py")
        ),
    }


def circles() -> list[list[str]]:
    """Return the circles of imports, late ones too, as lists of modules."""
    graph = {
        name_of(path): set(imports(path, late=True)) - {name_of(path)}
        for path in PACKAGE.rglob("*.py")
    }
    while leaves := [name for name, to in graph.items() if not to & graph.keys()]:
        for name in leaves:
            del graph[name]
    while tops := [
        name for name in graph if not any(name in to for to in graph.values())
    ]:
        for name in tops:
            del graph[name]
    return [[name, *sorted(to & graph.keys())] for name, to in sorted(graph.items())]


def test_no_module_imports_itself_through_others() -> None:
    assert circles() == []


def part_of(module: str) -> str:
    """Return the part of the package that a module belongs to."""
    first = module.split(".")[0]
    return first if first in PARTS else "lessons"


@pytest.mark.parametrize("part", PARTS)
def test_a_part_imports_only_parts_before_it(part: str) -> None:
    before = PARTS[: PARTS.index(part) + 1]
    for path in PACKAGE.rglob("*.py"):
        if part_of(name_of(path)) == part:
            found = set(map(part_of, imports(path, late=True)))
            assert found <= set(before), path


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_a_command_only_parses_its_arguments(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr, ast.FunctionDef)
    assert all(isinstance(node, kinds) for node in tree.body)
    lines = dict(functions(path))
    assert all(count <= 40 for count in lines.values())
    if path.stem not in ("__init__", "__main__", "arguments"):
        assert {"add_arguments", "run"} <= set(lines) and sum(lines.values()) <= 60


def test_only_commands_know_of_arguments() -> None:
    for path in set(PACKAGE.rglob("*.py")) - set(COMMANDS):
        assert "import argparse" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_lesson_imports_earlier_lessons_and_the_leaves(path: Path) -> None:
    earlier = set(LESSONS[: LESSONS.index(path.stem)])
    after = FILES_OF_MODELS if "gpt2_model" in earlier else set()
    assert set(imports(path, late=True)) <= earlier | LEAVES | after


def test_leaves_import_no_lesson() -> None:
    for name in LEAVES:
        assert set(imports(PACKAGE / f"{name}.py", late=True)) <= LEAVES


def test_files_of_models_import_the_model_alone() -> None:
    for name in FILES_OF_MODELS:
        found = set(imports(PACKAGE / f"{name}.py", late=True))
        assert found <= LEAVES | FILES_OF_MODELS | {"gpt2_model"}


def public(path: Path) -> Iterator[tuple[str, list[str], str]]:
    """Yield (name, arguments, docstring) of a module's or a package's public functions.

    These are the functions in `__all__`, and the public methods of the classes in it.
    """
    paths = path.parent.glob("*.py") if path.stem == "__init__" else [path]
    trees = {one: ast.parse(one.read_text(encoding="utf-8")) for one in paths}
    names = next(
        ast.literal_eval(node.value)
        for node in trees[path].body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    for node in (node for tree in trees.values() for node in tree.body):
        if getattr(node, "name", "") in names:
            found = node.body if isinstance(node, ast.ClassDef) else [node]
            for one in found:
                if isinstance(one, ast.FunctionDef) and one.name[0] != "_":
                    signature = one.args
                    given = signature.posonlyargs + signature.args
                    given += signature.kwonlyargs
                    arguments = [part.arg for part in given if part.arg != "self"]
                    yield one.name, arguments, ast.get_docstring(one) or ""


PUBLIC = [
    *MODULES,
    *(PACKAGE / f"{name}.py" for name in sorted(FILES_OF_MODELS)),
    *(PACKAGE / part / "__init__.py" for part in ("plots", "widgets")),
]


@pytest.mark.parametrize("path", PUBLIC, ids=name_of)
def test_of_more_than_four_arguments_each_is_described(path: Path) -> None:
    for name, arguments, docstring in public(path):
        section = docstring.partition("\nParameters\n----------\n")[2]
        section = re.split(r"\n\n\S.*\n---", section)[0]
        entries = re.findall(r"^[a-z].*", section, re.MULTILINE)
        named = [one for entry in entries for one in entry.split(", ")]
        if len(arguments) > 4:
            assert set(arguments) == set(named), name


def test_functions_of_the_lessons_are_short() -> None:
    found = figures()
    assert found["function lines, median"] <= 8
    assert found["function lines, 90th percentile"] <= 18
    assert found["function lines, most"] <= 30


def test_what_a_caller_gets_wrong_is_told_elsewhere() -> None:
    assert figures()["if ...: raise, share of the lines"] <= 0.03


def test_the_shapes_of_the_model_are_written_beside_it() -> None:
    assert 15 <= figures()["shape comments per 100 lines of the model"] <= 25


@pytest.mark.parametrize("name", ["MultiHeadAttention", "generate"])
def test_the_heart_of_a_lesson_fits_on_a_screen(name: str) -> None:
    assert figures()[name] < 30


def test_the_tests_wait_by_the_clock() -> None:
    """Playwright would ask whenever a frame is drawn; out of view, none ever is."""
    here = Path(__file__)
    uses = {
        path.name
        for path in here.parent.rglob("*.py")
        if path != here and ".wait_for_function(" in path.read_text(encoding="utf-8")
    }
    assert uses == {"browser.py"}


if __name__ == "__main__":
    for name, number in figures().items():
        print(f"{number:8.4g}  {name}")
    for circle in circles():
        print(*circle)
