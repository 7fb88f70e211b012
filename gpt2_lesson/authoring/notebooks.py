"""What authors' commands share: finding lessons, naming cells, the normal form."""

import re
import unicodedata
from pathlib import Path

import nbformat
from nbformat import NotebookNode

PACKAGE = Path(__file__).resolve().parents[1]
NOTEBOOKS = PACKAGE.parent / "notebooks"
METADATA = {
    "kernelspec": {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    },
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "ipython3",
    },
}
WIDGET = "application/vnd.jupyter.widget-view+json"
FIGURE = 'class="gpt2-lesson-figure"'  # in the text/html of a figure of `widgets`
REPORT = 'class="gpt2-lesson-report"'  # in that of a report of `checks`
REPLACED = [  # what differs from run to run
    (r"\bat 0x[0-9a-fA-F]{6,}", "at 0x..."),
    (r"(?<![^\s'\"(<])[^\s'\"(<]*ipykernel_\d+/\d+\.py", "<notebook>"),
    (r"(?<![^\s'\"(<])[^\s'\"(<]*/site-packages/", "site-packages/"),
]
# tqdm's [00:03<00:00, 98.1it/s, loss=2]; the times go, the rest stays
BAR_TIME = r"\[[\d:]+<[\d:?]+, *[^],]+(?:, )?(.*)\]"


def lessons(folder: Path) -> list[Path]:
    """Return the lessons NN_word.ipynb in `folder`, in order.

    Raises FileNotFoundError when there is none.
    """
    found = sorted(Path(folder).glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no lessons (01_word.ipynb): `gpt2-lesson lessons FOLDER` "
            "copies them; then name FOLDER/notebooks with --notebooks"
        )
    return found


def matches_name(name: str, stem: str) -> bool:
    """Return True if 01, attention or 01_attention is said for 01_attention."""
    return name in (stem, stem[:2], stem[3:])


def word(lesson: Path) -> str:
    """Return the word of a lesson: `attention` for 01_attention.ipynb."""
    return lesson.stem[3:]


def read(path: Path) -> NotebookNode:
    """Return the notebook at `path`. Raises ValueError when it is none."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.writes(notebook).encode()  # half a character is refused
        return notebook
    except (ValueError, KeyError, nbformat.ValidationError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ValueError(f"{path} is not a notebook: {reason}") from None


def is_readable(cell_id: str) -> bool:
    """Return whether a cell's id is words in kebab-case, no random characters."""
    words = re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", cell_id)
    return bool(words) and not re.fullmatch(r"[0-9a-f]{8}([0-9a-f-]{28})?", cell_id)


def name_cells(notebook: NotebookNode) -> None:
    """Give each cell without a readable id one made from what the cell holds."""
    taken: set[str] = set()
    nameless = []
    for cell in notebook.cells:
        if is_readable(cell.get("id", "")) and cell.id not in taken:
            taken.add(cell.id)
        else:
            nameless.append(cell)
    for cell in nameless:
        slug = name = _slug(cell)
        number = 1
        while slug in taken or not is_readable(slug):
            number += 1
            slug = f"{name}-{number}"
        cell["id"] = slug
        taken.add(slug)


def _slug(cell: NotebookNode) -> str:
    """Return a name for a cell: its definition, its heading, or its first words."""
    text = cell.source
    if cell.cell_type == "code":
        text = re.sub(r"^\s*[#%!].*$", "", text, flags=re.M).strip()
        if definition := re.match(r"(?:@.*\n)*(?:async )?(?:def|class) +(\w+)", text):
            name = re.sub(
                r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", definition[1]
            )
            return _kebab(name, 9)
        if re.match(r"import |from ", text):
            return "imports"
        text = re.sub(r"#.*|\b\w\b|\d", " ", text)
    elif text.startswith("#"):
        text = text.splitlines()[0]
    text = re.sub(r"<[^>]*>|\]\([^)]*\)", " ", text)
    return _kebab(text, 5) or cell.cell_type


def _kebab(text: str, most: int) -> str:
    """Return the first `most` words of `text`, in ASCII, joined by hyphens."""
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = re.findall(r"[a-z0-9]+", text.lower().replace("'", ""))
    return "-".join(words[:most])[:60].strip("-")


def normalise(notebook: NotebookNode, alive: bool = False) -> NotebookNode:
    """Return the notebook without what differs from run to run or only bloats it.

    Fixed metadata; readable cell ids; tags and folded outputs kept; no empty cells,
    widget state, timings, addresses or paths of this machine; of a progress bar the
    last line, without times; of an interactive figure the picture with its alt text,
    unless `alive`.
    """
    cells = [
        _normal_cell(cell, alive) for cell in notebook.cells if cell.source.strip()
    ]
    normal = nbformat.from_dict(
        {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    )
    name_cells(normal)
    return normal


def folded(cell: NotebookNode) -> bool:
    """Return whether a cell's output is folded, since the learner predicts it first."""
    return bool(cell.metadata.get("jupyter", {}).get("outputs_hidden"))


def _normal_cell(cell: NotebookNode, alive: bool) -> dict:
    keep = {
        key: value
        for key, value in cell.items()
        if key in ("cell_type", "id", "attachments", "execution_count")
    }
    kept = {
        key: cell.metadata[key]
        for key in ("nbgrader", "tags")
        if cell.metadata.get(key)
    }
    if cell.cell_type == "code" and folded(cell):
        kept["jupyter"] = {"outputs_hidden": True}
    keep |= {"metadata": kept, "source": cell.source.strip("\n")}
    if cell.cell_type == "code":
        keep["outputs"] = _normal_outputs(cell.outputs, alive)
    return keep


def _normal_outputs(outputs: list[NotebookNode], alive: bool) -> list[dict]:
    """Return the outputs with neighbouring streams joined, stderr before stdout."""
    normal: list[dict] = []
    streams: dict[str, str] = {}

    def flush() -> None:
        for name in sorted(streams):  # which came first is a race
            if text := _settle(streams[name]):
                normal.append({"name": name, "output_type": "stream", "text": text})
        streams.clear()

    for output in outputs:
        if output.output_type == "stream":
            streams[output.name] = streams.get(output.name, "") + output.text
        elif (shown := _normal_display(output, alive)) is not None:
            flush()
            normal.append(shown)
    flush()
    return normal


def _normal_display(output: NotebookNode, alive: bool) -> dict | None:
    """Return an output that is no stream, or None for a widget without a picture."""
    if "data" not in output:
        return dict(output)
    data = {
        kind: _clean(value)
        if isinstance(value, str) and kind.startswith("text/")
        else value
        for kind, value in output.data.items()
        if kind != WIDGET and (alive or not _stands_twice(kind, output.data))
    }
    if WIDGET in output.data and set(data) <= {"text/plain"}:
        return None
    metadata = {
        kind: output.metadata[kind] for kind in data if output.metadata.get(kind)
    }
    return {**output, "data": data, "metadata": metadata}


def _stands_twice(kind: str, data: dict) -> bool:
    """Return whether `kind` is a page beside which its picture or text stands."""
    return kind == "text/html" and (
        FIGURE in data[kind]
        and "image/png" in data
        or REPORT in data[kind]
        and "text/plain" in data
    )


def _settle(text: str) -> str:
    """Return what a terminal shows in the end; of a progress bar without the times."""
    lines = []
    for line in re.sub(r"\x1b\[\d*[ABK]", "", text).replace("\r\n", "\n").split("\n"):
        if "\r" in line:
            last = [part for part in ["", *line.split("\r")] if part][-1:]
            line = re.sub(BAR_TIME, r"[\1]", "".join(last)).removesuffix(" []").rstrip()
            if not line:
                continue
        lines.append(line)
    return _clean("\n".join(lines))


def _clean(text: str) -> str:
    for pattern, replacement in REPLACED:
        text = re.sub(pattern, replacement, text)
    return text
