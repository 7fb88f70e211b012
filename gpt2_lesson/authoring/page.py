"""Write lessons as pages for reading offline.

A page is a single file that contains its pictures; its formulas are MathML, and its
figures are interactive. What a page links to in the course, such as its exercises, is
written with the outputs that are stored in it, and not run.
"""

import base64
import html
import mimetypes
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from bs4 import BeautifulSoup, Tag
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook
from tqdm import tqdm

from gpt2_lesson.authoring.notebooks import (
    folded,
    lessons,
    normalise,
    read,
)
from gpt2_lesson.authoring.run import LessonFailed, execute, find
from gpt2_lesson.files import atomic_write
from gpt2_lesson.widgets.figure import POLICY

STYLE = Path(__file__).with_name("page.css")


def write_pages(names: list[str], notebooks: Path, out: Path, timeout: float) -> int:
    """Write the lessons' pages and print where they are; 1 if a lesson fails."""
    paths = [find(name, notebooks) for name in names]
    paths = [path.resolve() for path in paths or lessons(notebooks)]
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    linked: set[Path] = set()
    for path in tqdm(paths, unit="lesson", disable=None):
        try:
            notebook = execute(normalise(read(path)), path, timeout, alive=True)
        except LessonFailed as error:
            print(error, file=sys.stderr)
            return 1
        course = Course.around(path, notebooks)
        written.append(_write(notebook, path, course, out, linked))
    course = Course.around(paths[0], notebooks)
    more = write_linked(linked, set(paths), course, out)
    for target in written:
        print(f"{target.stat().st_size / 1e6:6.2f} MB  {target}")
    if more:
        print(f"and {more} files that they link to, as they are stored")
    return 0


@dataclass(frozen=True)
class Course:
    """A tree of notebooks, which the pages mirror, in a folder that they may show."""

    notebooks: Path
    root: Path

    @classmethod
    def around(cls, path: Path, notebooks: Path) -> "Course":
        """Return the course of a notebook; one from elsewhere is one of its own."""
        notebooks = notebooks.resolve()
        if path.is_relative_to(notebooks):
            return cls(notebooks, notebooks.parent)
        return cls(path.parent, path.parent)

    def place(self, file: Path) -> Path:
        """Return where among the pages a file, or the page of it, is written."""
        inside = file.is_relative_to(self.notebooks)
        file = file.relative_to(self.notebooks if inside else self.root)
        return file.with_suffix(".html") if file.suffix in (".ipynb", ".md") else file

    def file(self, folder: Path, address: str) -> Path | None:
        """Return the file of the course that an address in `folder` means."""
        if re.match(r"\w+:|//", address):
            return None
        file = (folder / unquote(address)).resolve()
        return file if file.is_file() and file.is_relative_to(self.root) else None


def write_linked(files: set[Path], done: set[Path], course: Course, out: Path) -> int:
    """Write what the pages of `done` link to, and so on; return how many files.

    A notebook becomes a page with the outputs that are stored in it. A page that is
    newer than its notebook stays.
    """
    todo, found = files - done, set()
    with tqdm(total=len(todo), desc="linked", unit="file", disable=None) as bar:
        while todo:
            file = todo.pop()
            found.add(file)
            target = out / course.place(file)
            linked: set[Path] = set()
            if target.exists() and target.stat().st_mtime > file.stat().st_mtime:
                pass
            elif file.suffix == ".ipynb":
                _write(read(file), file, course, out, linked)
            elif file.suffix == ".md":
                text = new_markdown_cell(file.read_text(encoding="utf-8"))
                _write(new_notebook(cells=[text]), file, course, out, linked)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                atomic_write(target, file.read_bytes())
            todo |= linked - done - found
            bar.total = len(todo) + len(found)
            bar.update()
    return len(found)


def _write(
    notebook: NotebookNode, path: Path, course: Course, out: Path, linked: set[Path]
) -> Path:
    """Write the page of a notebook and return where; add to `linked` what it needs."""
    try:
        text = page(notebook, path.parent, course, linked)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    target = out / course.place(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(target, text)
    return target


def page(
    notebook: NotebookNode,
    folder: Path,
    course: Course | None = None,
    linked: set[Path] | None = None,
) -> str:
    """Return a notebook with its outputs as one HTML page that needs nothing else.

    `folder` is the notebook's, from which its drawings are taken; the files that it
    links to are added to `linked`. Raises ValueError for a drawing that is not there,
    or not in the course, and for a formula that cannot be drawn.
    """
    folder = folder.resolve()
    course = course or Course(folder, folder.parent)
    cells = BeautifulSoup(_Cells().from_notebook_node(notebook)[0], "html.parser")
    for image in cells.find_all("img"):
        image["src"] = _inside(str(image.get("src", "")), folder, course)
    for link in cells.find_all("a"):
        if "anchor-link" in link.get_attribute_list("class"):
            link.decompose()  # a heading's link to itself
        elif "href" in link.attrs:
            file = _lead(link, folder, course)
            if file is not None and linked is not None:
                linked.add(file)
    for cell in notebook.cells:
        if folded(cell) and (
            output := cells.select_one(f'[id="cell-id={cell.id}"] .output_wrapper')
        ):
            answer = output.wrap(cells.new_tag("details", attrs={"class": "answer"}))
            summary = cells.new_tag("summary")
            summary.string = "Show the output"
            answer.insert(0, summary)
    for box in cells.select('pre, table, math[display="block"]'):
        box["tabindex"] = "0"  # what scrolls sideways can be scrolled by the keyboard
    heading = cells.find("h1")
    text = PAGE.format(
        policy=html.escape(POLICY),
        style=STYLE.read_text(encoding="utf-8"),
        title=html.escape(heading.get_text() if heading else "Lesson"),
        cells=cells,
    )
    return text.encode(errors="backslashreplace").decode()  # no half characters


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
            template_name="basic",
            exclude_input_prompt=True,
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


def _inside(source: str, folder: Path, course: Course) -> str:
    """Return the address of a picture as one that holds the picture itself."""
    if source.startswith("data:"):
        return source
    file = course.file(folder, source)
    kind = mimetypes.guess_type(file.name)[0] if file else None
    if file is None or not (kind or "").startswith("image/"):
        raise ValueError(
            f"the picture {source!r} is not a picture file in {course.root}; a page "
            "holds its pictures, so store it there and give its path from the notebook"
        )
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _lead(link: Tag, folder: Path, course: Course) -> Path | None:
    """Lead a link into the course to its page, and return the file that it means.

    A link to what is not there keeps its words only.
    """
    address, mark, place = str(link["href"]).partition("#")
    if not address or re.match(r"\w+:|//", address):
        return None
    file = course.file(folder, address)
    if file is None:
        del link["href"]
        return None
    here = course.place(folder / "page").parent
    page = os.path.relpath(course.place(file), here).replace(os.sep, "/")
    link["href"] = quote(page) + mark + place
    return file


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
{style}</style></head><body><main>
{cells}
</main></body></html>
"""
