"""Build the reading site: run the lessons, lay out the pages' sources, call Sphinx."""

import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.console import color_terminal, nocolor
from sphinx.util.docutils import docutils_namespace, patch_docutils
from tqdm import tqdm

from gpt2_lesson.authoring.course import check_address, copy_course
from gpt2_lesson.authoring.notebooks import PACKAGE, lessons, word
from gpt2_lesson.authoring.run import LessonFailed, find
from gpt2_lesson.authoring.site.outputs import run_once
from gpt2_lesson.corpora import story_model
from gpt2_lesson.corpora.stories import stories
from gpt2_lesson.files import atomic_write, scratch_folder
from gpt2_lesson.tokenizer import Tokenizer
from gpt2_lesson.widgets.front import EXAMPLES, front_page

HERE = Path(__file__).parent
EPUB = "gpt2_lesson.epub"
TEACHING = "notebooks/teaching/*.md"  # not in a learner's copy of the course
CONTENTS = {  # the groups of pages, in the order of previous and next
    "Lessons": ("notebooks/[0-9]*.ipynb", "notebooks/capstone.md"),
    "Problem sets": ("notebooks/exercises/*/*.ipynb",),
    "More": ("notebooks/glossary.md",),
}
TOOLS = ("corpora", "plots", "widgets", "checks")  # which lessons use
BINDER = {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"}
COLAB = {"colab_url": "https://colab.research.google.com"}  # for GitHub alone
UNWANTED = (".buildinfo", "objects.inv", "**/*.map", "**/*webpack-macros.html")


def build_site(
    names: list[str],
    notebooks: Path,
    out: Path,
    timeout: float = 1800,
    repository: str = "",
    epub: bool = False,
) -> int:
    """Write the site to `out` and print its size.

    Returns 1, after naming the place, if a lesson fails, or a link leads nowhere; in
    the second case the site is written all the same.

    Parameters
    ----------
    names
        The lessons to run, all if there are none; the others are shown with the
        outputs that are stored in them.
    notebooks
        The folder of the lessons.
    out
        A new or an empty folder, or one that contains a site, which is replaced.
    timeout
        The limit for one cell, in seconds.
    repository
        The address of the course's public repository, for launch buttons; "" for none.
    epub
        Whether to put an e-book into the site.

    Raises
    ------
    FileExistsError
        If `out` contains something else.
    ValueError
        For an address that isn't one.
    """
    check_address(repository)
    if out.exists() and any(out.iterdir()) and not (out / "searchindex.js").is_file():
        raise FileExistsError(f"{out} contains files that are not of a site")
    for path in tqdm(
        [find(name, notebooks) for name in names] or lessons(notebooks),
        unit="lesson",
        disable=None,
    ):
        try:
            run_once(path, timeout)
        except LessonFailed as error:
            print(error, file=sys.stderr)
            return 1
    with scratch_folder("site") as scratch:
        lay_out(notebooks.resolve().parent, scratch / "source", epub)
        built = [
            _sphinx(scratch, builder, _settings(repository))
            for builder in ["html"] + ["epub"] * epub
        ]
        site = scratch / "html"
        for path in [path for name in UNWANTED for path in site.glob(name)]:
            path.unlink()
        if epub:
            shutil.move(scratch / "epub" / EPUB, site)
        atomic_write(site / "index.html", _front(lessons(notebooks)))
        shutil.rmtree(out, ignore_errors=True)
        shutil.move(site, out)
    sizes = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    print(f"{sum(sizes) / 1e6:.1f} MB in {len(sizes)} files  {out / 'index.html'}")
    return int(not all(built))


def lay_out(course: Path, source: Path, epub: bool = False) -> None:
    """Copy the pages' sources, with the lists of pages from which Sphinx starts."""
    taught = sorted(course.glob(TEACHING))
    copy_course(course, source, (TEACHING,) if taught else ())
    _append(source / "reference.md", _reference(lessons(course / "notebooks")))
    contents = {
        name: [path for pattern in patterns for path in sorted(source.glob(pattern))]
        for name, patterns in CONTENTS.items()
    }
    if taught:
        guide = source / "notebooks" / "teaching" / "README.md"
        pages = sorted(set(guide.parent.glob("*.md")) - {guide})
        _append(guide, _toctree("", pages, guide.parent))
        contents["More"].append(guide)
    contents["More"].append(source / "reference.md")
    if epub:
        _append(source / "README.md", f'<a href="{EPUB}">The course as an e-book</a>')
    for name, pages in contents.items():
        _append(source / "README.md", _toctree(name, pages, source))


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")


def _toctree(caption: str, pages: list[Path], folder: Path) -> str:
    names = [page.relative_to(folder).with_suffix("").as_posix() for page in pages]
    options = [":hidden:", ":titlesonly:"] + [f":caption: {caption}"] * bool(caption)
    return "\n".join(["```{toctree}", *options, "", *names, "```"])


def _reference(paths: list[Path]) -> str:
    """Return the page of the public names, module by module in the lessons' order."""
    modules = [word(path) for path in paths if (PACKAGE / f"{word(path)}.py").exists()]
    parts = ["# Reference", "The public names of the package `gpt2_lesson`."]
    for name in [*modules, *TOOLS]:
        directive = f".. automodule:: gpt2_lesson.{name}\n   :members:"
        parts += [f"## {name}", f"```{{eval-rst}}\n{directive}\n```"]
    return "\n\n".join(parts)


def _settings(repository: str) -> dict[str, object]:
    """Return the settings for launch buttons, where a repository is configured."""
    if not repository:
        return {}
    github = repository.startswith("https://github.com/")
    return {
        "html_theme_options.repository_url": repository,
        "html_theme_options.repository_branch": "main",
        "html_theme_options.launch_buttons": BINDER | COLAB if github else BINDER,
        "html_theme_options.use_repository_button": True,
    }


def _sphinx(scratch: Path, builder: str, settings: dict[str, object]) -> bool:
    """Let Sphinx build; return whether it had nothing to warn of."""
    if not color_terminal():
        nocolor()
    with patch_docutils(HERE), docutils_namespace():
        app = Sphinx(
            scratch / "source",
            HERE,
            scratch / builder,
            scratch / "doctrees",
            builder,
            confoverrides={"epub_basename": EPUB.removesuffix(".epub"), **settings},
            status=sys.stdout if sys.stdout.isatty() else None,
            warningiserror=True,
        )
        app.build()
    return app.statuscode == 0


def _front(paths: list[Path]) -> str:
    """Return the front page, from which every part of the site can be reached."""
    first = paths[0].stem
    return front_page(
        story_model().eval(),
        Tokenizer(),
        examples=EXAMPLES,
        lessons="notebooks",
        sample=stories(3),
        menu={
            f"Start with lesson {first[:2]}": f"notebooks/{first}.html",
            "First exercises": f"notebooks/exercises/{first}/{first}.html",
            "All lessons": "README.html",
            "Glossary": "notebooks/glossary.html",
        },
    )
