"""What a learner opens: lessons, exercises, glossary and figures, copied to a folder.

The wheel contains them in the folder gpt2_lesson/course: setup.py, which imports this
module, copies them there. So this module imports the standard library alone.
"""

import json
import re
import tempfile
from pathlib import Path

__all__ = ["check_address", "copy_course", "course_root", "write_course"]

PACKAGE = Path(__file__).resolve().parents[1]
FILES = (  # neither the solutions nor the teacher's guide
    "README.md",
    "figures/*.csv",
    "figures/*.png",
    "figures/*.svg",
    "notebooks/*.ipynb",
    "notebooks/*.md",
    "notebooks/exercises/*/*.ipynb",
)
LINK = re.compile(r"\[([^][]+)\]\((?![a-z]+:|#)([^)\s#]+)[^)]*\)")
INSTALL = """\
# In Colab this installs the course (PyTorch is there already); elsewhere, nothing.
import importlib.util
if importlib.util.find_spec("gpt2_lesson") is None:
    %pip install -q --no-deps git+{repository} anywidget psygnal latex2mathml
    !gpt2-lesson lessons course
    %cd course/notebooks"""


def course_root() -> Path:
    """Return the folder of the course: of the checkout, or in the installed package."""
    installed = PACKAGE / "course"
    return installed if installed.is_dir() else PACKAGE.parent


def copy_course(source: Path, target: Path, more: tuple[str, ...] = ()) -> list[Path]:
    """Copy the course's files, and `more`; return their paths, relative to `target`.

    In README and glossary a link to a file that is not copied becomes plain text.
    Raises FileNotFoundError if a kind of file is missing.
    """
    copied = []
    for pattern in (*FILES, *more):
        found = sorted(source.glob(pattern))
        if not found:
            raise FileNotFoundError(f"{source / pattern} is missing")
        copied += [path.relative_to(source) for path in found]
    for path in copied:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes((source / path).read_bytes())  # writable ones
    for path in copied:
        if path.suffix == ".md":
            _drop_dead_links(target / path)
    return copied


def _drop_dead_links(page: Path) -> None:
    """Keep only the text of each link whose file does not exist."""

    def kept(link: re.Match[str]) -> str:
        return link[0] if (page.parent / link[2]).exists() else link[1]

    text = LINK.sub(kept, page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8", newline="\n")


def _add_install_cell(notebook: Path, repository: str) -> None:
    """Put a first cell into a notebook that installs the course where it is missing."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    cell: dict[str, object] = {
        "cell_type": "code",
        "execution_count": None,
        "id": "install-the-course",
        "metadata": {},
        "outputs": [],
        "source": INSTALL.format(repository=repository),
    }
    content["cells"].insert(0, cell)
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    notebook.write_text(text, encoding="utf-8", newline="\n")


def check_address(repository: str) -> None:
    """Raise ValueError for the address of a repository that isn't one; "" is none."""
    if repository and not re.fullmatch(r"https://[\w./~-]+", repository):
        raise ValueError(
            f"{repository!r}: expected an address such as https://HOST/OWNER/REPOSITORY"
        )


def write_course(folder: Path, repository: str = "") -> list[Path]:
    """Copy the course to `folder`, all of it or nothing; return the files' paths.

    Hidden entries of the folder, such as .venv, stay. With the address of a git
    repository, each notebook begins with a cell that installs the course from there.
    Raises FileExistsError if the folder has other entries, ValueError for an address
    that does not begin with https://.
    """
    check_address(repository)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file, expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    if names := sorted(p.name for p in folder.iterdir() if p.name[0] != "."):
        raise FileExistsError(
            f"{folder} is not empty (it contains {names[0]}): name a new folder, so "
            "that no work of yours is overwritten"
        )
    with tempfile.TemporaryDirectory(prefix=".gpt2_lesson-", dir=folder) as scratch:
        staged = Path(scratch, "course")
        copied = copy_course(course_root(), staged)
        if repository:
            for path in staged.rglob("*.ipynb"):
                _add_install_cell(path, repository)
        for path in staged.iterdir():
            path.rename(folder / path.name)
    return copied
