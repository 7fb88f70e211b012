"""The words of the course: its glossary, and words that are not the field's.

`python tests/test_words.py` prints what is still to be mended: unsuitable words, with
what to say instead, and glossary terms that their lesson does not use. With paths, only
those files are read; a lesson in the percent format may be one of them.
"""

import io
import json
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
GLOSSARY = NOTEBOOKS / "glossary.md"
WORDS = Path(__file__).with_name("words.txt")
LESSONS = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
MADE = {ROOT / "gpt2_lesson" / f"{path.stem[3:]}.py" for path in LESSONS}

# Correct English, quotations and other projects' names that a pattern would catch.
ALLOWED = {
    "glossary.md": ["the slope of its graph"],
    "CHANGELOG.md": ["`surprises`", "`surprise`"],
    "00_start_here.ipynb": ["a head *looks at* a character"],
    "09_tokenizer.ipynb": ["a piece of bread"],
    "checks/exercises/start_here.py": ["odds, p / (1 - p)", "odds compare a word"],
}


def patterns() -> Iterator[tuple[re.Pattern, str, str, bool]]:
    """Yield each pattern, what to say instead, in which files, and "also in names"."""
    lines = WORDS.read_text(encoding="utf-8").splitlines()
    for line in (line for line in lines if line and not line.startswith("#")):
        pattern, instead, *files = (part.strip() for part in line[2:].split(" ; "))
        pattern = pattern.replace(" ", r"\s+")
        yield (
            re.compile(rf"\b(?:{pattern})(?!\w)", re.IGNORECASE),
            instead,
            "".join(files),
            line[0] == "=",
        )


def python(source: str) -> Iterator[tuple[int, str, bool]]:
    """Yield (line, text, is a name) for strings, comments and names of Python code.

    Strings or comments that follow one another are one text, as for a reader. A string
    that is an identifier counts as a name.
    """
    text, start, kind, inside = "", 0, "", 0
    magic = re.compile(r"^[%!].*$", re.MULTILINE)
    for token in tokenize.generate_tokens(io.StringIO(magic.sub("", source)).readline):
        name = tokenize.tok_name[token.type]
        inside += (name == "FSTRING_START") - (name == "FSTRING_END")  # Python 3.12
        if inside and name == "FSTRING_MIDDLE":
            name = "STRING"
        elif inside or name in ("NL", "INDENT", "DEDENT", "FSTRING_END"):
            continue
        if text and name != kind:
            yield start, text, text.isidentifier()
            text = ""
        kind = name
        if kind == "NAME":
            yield token.start[0], token.string.replace("_", " "), True
        elif kind in ("STRING", "COMMENT"):
            start = start if text else token.start[0]
            text += "\n" * (token.start[0] - start - text.count("\n"))
            text += VALUE.sub("{}", QUOTES.sub("", token.string)).replace("\\n", "  ")


QUOTES = re.compile(r"""^\w{0,2}(\"{3}|["'])|(\"{3}|["'])$|^#""")
VALUE = re.compile(r"(?<!\{)\$?\{[^{}]*\}")  # in an f-string or a template
JAVASCRIPT = re.compile(
    r"""
    "(?:\\.|[^"\\\n])*" | `(?:\\.|[^`\\])*` | (?:(?<!:)//.*\n\s*)+ | /\*[\s\S]*?\*/
""",
    re.VERBOSE,
)
DRAWING = re.compile(r"(?<=>)[^<>]+(?=<)")


def texts(path: Path) -> Iterator[tuple[str, int, str, bool]]:
    """Yield (cell, line, text, is a name) for all that a reader meets in a file."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        for number, cell in enumerate(json.loads(source)["cells"]):
            text = "".join(cell["source"])
            code = cell["cell_type"] == "code"
            for part in python(text) if code else [(1, text, False)]:
                yield f"cell {number}, ", *part
    elif path.suffix == ".py":
        names = path.parent != ROOT and ROOT / "gpt2_lesson" not in path.parents
        for part in python(source):
            if names or not part[2]:
                yield "", *part
    elif path.suffix in (".js", ".svg"):
        pattern = JAVASCRIPT if path.suffix == ".js" else DRAWING
        for match in pattern.finditer(source):
            if not match[0].strip('"`').isidentifier():
                line = source.count("\n", 0, match.start()) + 1
                yield "", line, VALUE.sub("{}", match[0]), False
    else:
        yield "", 1, re.sub(r"\*also called\*.*", "", source), False


def files() -> list[Path]:
    """Return the files that learners, teachers and contributors read."""
    found = {
        path
        for pattern in (
            "*.md",
            "figures/*.svg",
            "figures/*.py",
            "notebooks/**/*.ipynb",
            "notebooks/**/*.md",
            "gpt2_lesson/**/*.py",
            "gpt2_lesson/**/*.js",
        )
        for path in ROOT.glob(pattern)
    }
    return sorted(path for path in found - MADE if ".ipynb_" not in path.as_posix())


def unsuitable(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (place, words around, what to say instead) for each unsuitable word."""
    words = [
        (pattern, instead, in_names)
        for pattern, instead, where, in_names in patterns()
        if re.search(where, path.as_posix())
    ]
    allowed = [
        phrase
        for name, phrases in ALLOWED.items()
        if path.match(name)
        for phrase in phrases
    ]
    for cell, line, text, is_name in texts(path):
        text = re.sub(r"[ \t]*(\n| )[ \t]*", r"\1", text)
        for phrase in allowed:
            text = text.replace(phrase, re.sub(r"\w", "~", phrase))
        for pattern, instead, in_names in words:
            for match in pattern.finditer(text) if in_names or not is_name else ():
                around = text[max(0, match.start() - 25) : match.end() + 25]
                at = line + text.count("\n", 0, match.start())
                yield f"{cell}line {at}", f"{match[0]!r} in {around!r}", instead


def glossary() -> dict[str, str]:
    """Return each term of the glossary, with the file that introduces it."""
    entries = re.findall(
        r"^### (.+)\n\n\S.+\n\n.+?\]\(([^)]+)\)",
        GLOSSARY.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    terms = dict(entries)
    assert len(terms) == len(entries), "a term is there twice"
    return terms


def lacking() -> Iterator[tuple[str, str]]:
    """Yield (file, term) for each term of the glossary that its file does not use."""
    for term, name in glossary().items():
        text = " ".join(text for *_, text, _ in texts(NOTEBOOKS / name))
        words = re.escape(term).replace(r"\ ", r"[\s*_-]+").replace(r"\-", r"[\s-]?")
        if not re.search(rf"\b{words}(s|es|d|ed)?\b", text, re.IGNORECASE):
            yield name, term


def anchor(heading: str) -> str:
    """Return a heading's address, as JupyterLab and the course's pages have it."""
    return heading.replace(" ", "-")


PLAIN = """
    A logit is a log-odds. A surprisal of 0.69 nats. Two heads share the work. The
    tensors share storage. The loss is evenly spread. Attention is spread over all
    keys. The square root of D. The root folder. A training run, a training step,
    the training set. The learning rate of 0.01, at a rate of 50%. The residual
    stream. It turned out to be wrong; dropout is turned off. There is no file. The
    decimal places. The program writes to a file. The checkpoint is saved to disk.
    Look at the shapes. He is no longer there. The embedding matrix. Cut the text
    into windows. In other words, a reader looks at it.
"""
PRIVATE = """
    odds | the shares add up | a share of 0.4 | less surprising | a bend | hidden
    numbers | its slope | a spread of 0.02 | without the root | 858,880 numbers | by
    heart | the way back | first loss | the head looks at the name | who may look at
    whom | cut the head out | the matrix is turned | the filling | where two models
    part | the token table | two places back | the length of the gradient | a brake
    | all its stretches | shared out again | the likeliest word | held out | letter
    by letter | a line end | glue | a training ends | the best rate | drawn by
    chance | the model writes | in words | cannot be meant | also if | whoever |
    shall | by another road | what is no number
"""


def test_private_words_are_found_and_plain_english_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    good, bad = folder / "good.md", folder / "bad.md"
    good.write_text(PLAIN, encoding="utf-8")
    assert list(unsuitable(good)) == []
    for phrase in PRIVATE.split("|"):
        bad.write_text(phrase, encoding="utf-8")
        assert list(unsuitable(bad)), phrase
    code = folder / "00_code.py"
    code.write_text('log_odds = f"{odds}"  # the odds\n"the " "root"\n')
    assert [place for place, *_ in unsuitable(code)] == ["line 1", "line 1"]


def test_glossary_is_complete_and_its_terms_are_in_order() -> None:
    terms = list(glossary())
    headings = re.findall(r"^### (.+)", GLOSSARY.read_text("utf-8"), re.MULTILINE)
    assert headings == terms and len(terms) >= 90  # each with meaning and lesson
    of_lessons = [term for term, name in glossary().items() if name.endswith("ipynb")]
    assert of_lessons == sorted(of_lessons, key=str.lower)
    assert {name for name in glossary().values() if name.endswith("ipynb")} == {
        path.name for path in LESSONS
    }


def test_links_into_the_glossary_lead_to_a_term() -> None:
    anchors = {anchor(term) for term in glossary()}
    for path in [*NOTEBOOKS.rglob("*.ipynb"), *ROOT.rglob("*.md")]:
        links = re.findall(
            r"\]\(([^)\s]*)glossary\.md#([^)\s]+)\)", path.read_text(encoding="utf-8")
        )
        for folder, place in links:
            assert (path.parent / folder / "glossary.md").resolve() == GLOSSARY, path
            assert place in anchors, f"{path.name}: no term for #{place}"


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_the_course_uses_the_words_of_the_field(path: Path) -> None:
    assert list(unsuitable(path)) == []


def test_each_term_is_used_where_the_glossary_says() -> None:
    assert list(lacking()) == []


def main(paths: list[str]) -> None:
    """Print what is still to be mended in `paths`, or everywhere."""
    counts: Counter[str] = Counter()
    for path in [Path(name).resolve() for name in paths] or files():
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        for place, found, instead in unsuitable(path):
            print(f"{shown}, {place}: {found}; say: {instead}")
            counts[str(shown)] += 1
    for name, term in lacking():
        if not paths or any(
            path.startswith(name[:-6]) or f"/{name[:-6]}" in path for path in paths
        ):
            print(f"notebooks/{name} lacks the term {term!r}")
            counts["terms"] += 1
    print(*(f"{count:5} {name}" for name, count in counts.most_common()), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
