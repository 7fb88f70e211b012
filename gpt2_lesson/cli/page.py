"""`gpt2-lesson page`: run lessons and write each as a page to read without a network.

A page is one file. Its pictures lie inside it, its formulas are MathML, and its figures
answer back.
"""

import argparse
import base64
import html
import mimetypes
import re
import sys
from pathlib import Path
from urllib.parse import unquote

from bs4 import BeautifulSoup, Tag
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from tqdm import tqdm

from gpt2_lesson.cli.notebooks import (
    add_lesson_arguments,
    lessons,
    normalise,
    read,
)
from gpt2_lesson.cli.run import LessonFailed, execute, find
from gpt2_lesson.files import atomic_write
from gpt2_lesson.widgets.figure import POLICY

STYLE = Path(__file__).with_name("page.css")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gpt2-lesson page`."""
    add_lesson_arguments(parser, run=True)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("pages"),
        metavar="FOLDER",
        help="folder of the pages (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the lessons' pages and print where they are; 1 if a lesson fails."""
    paths = [find(name, args.notebooks) for name in args.lessons]
    paths = paths or lessons(args.notebooks)
    args.out.mkdir(parents=True, exist_ok=True)
    written = []
    for path in tqdm(paths, unit="lesson", disable=None):
        try:
            notebook = execute(normalise(read(path)), path, args.timeout, alive=True)
        except LessonFailed as error:
            print(error, file=sys.stderr)
            return 1
        target = args.out / f"{path.stem}.html"
        try:
            text = page(notebook, path.parent)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
        atomic_write(target, text)
        written.append(target)
    for target in written:
        print(f"{target.stat().st_size / 1e6:6.2f} MB  {target}")
    return 0


def page(notebook: NotebookNode, folder: Path) -> str:
    """Return a notebook with its outputs as one HTML page that needs nothing else.

    `folder` is the notebook's, from which its drawings are taken. Raises ValueError for
    a drawing that is not there, and for a formula that cannot be drawn.
    """
    cells = BeautifulSoup(_Cells().from_notebook_node(notebook)[0], "html.parser")
    for image in cells.find_all("img"):
        image["src"] = _inside(image.get("src", ""), folder)
    for link in cells.find_all("a"):
        _point_to_page(link)
    for box in cells.find_all(["pre", "table"]):
        box["tabindex"] = "0"  # what scrolls sideways can be scrolled by the keyboard
    heading = cells.find("h1")
    return PAGE.format(
        policy=html.escape(POLICY), style=STYLE.read_text(encoding="utf-8"),
        title=html.escape(heading.get_text() if heading else "Lesson"), cells=cells,
    )


class _Prose(IPythonRenderer):
    """Markdown with its formulas as MathML, which a browser draws by itself."""

    def block_math(self, body: str) -> str:
        return formula(body, "block")

    def inline_math(self, body: str) -> str:
        return formula(body, "inline")


class _Cells(HTMLExporter):
    """The cells of a notebook as HTML, with no page around them."""

    def __init__(self) -> None:
        super().__init__(
            template_name="basic", exclude_input_prompt=True,
            exclude_output_prompt=True,
        )

    @pass_context
    def markdown2html(self, context: dict, source: str) -> str:
        attachments = context.get("cell", {}).get("attachments", {})
        renderer = _Prose(escape=False, attachments=attachments)
        return MarkdownWithMath(renderer=renderer).render(source)


def formula(text: str, display: str) -> str:
    """Return a formula in LaTeX as MathML. Raises ValueError where that cannot be."""
    try:
        return convert(text.strip(), display=display)
    except Exception as error:  # latex2mathml's own have no base of their own
        raise ValueError(
            f"the formula {text.strip()!r} cannot be drawn ({type(error).__name__}); "
            "a browser needs LaTeX that is whole, such as x_{1,2} for x_1_2"
        ) from error


def _inside(source: str, folder: Path) -> str:
    """Return the address of a picture as one that holds the picture itself."""
    if source.startswith("data:"):
        return source
    file = folder / unquote(source)
    if re.match(r"\w+:", source) or not file.is_file():
        raise ValueError(
            f"the picture {source!r} is no file beside the lesson; a page holds its "
            "pictures, so store it in the project and name it by its path"
        )
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _point_to_page(link: Tag) -> None:
    """Lead a link to another lesson to its page; drop a heading's link to itself."""
    if "anchor-link" in link.get("class", []):
        link.decompose()
    elif (href := link.get("href")) and not re.match(r"\w+:", href):
        link["href"] = re.sub(r"\.ipynb(?=#|$)", ".html", href)


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
{style}</style></head><body><main>
{cells}
</main></body></html>
"""
