"""What the site adds to Sphinx: how notebooks are read, formulas, glossary, buttons."""

import json
import re
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxTranslator

from gpt2_lesson.authoring.notebooks import folded
from gpt2_lesson.authoring.page import formula
from gpt2_lesson.authoring.site.outputs import with_outputs

GLOSSARY = "notebooks/glossary"
MARKUP = re.compile(r"(`[^`]*`|\*\w[^*]*\w\*)|[|*]|(?<=\w)_(?!\w)")  # Markdown, or not
COLAB_BRANCH = "colab"  # where notebooks that install the course are: CONTRIBUTING.md


def slug(heading: str) -> str:
    """Return the name of a heading in links, as in JupyterLab: `#KV-cache`."""
    return heading.replace(" ", "-")


def read(text: str) -> NotebookNode:
    """Return a notebook for readers: as it ran, without marks for tools.

    The alt texts of its outputs are noted in the metadata, where `describe` finds them.
    """
    notebook = with_outputs(nbformat.reads(text, as_version=4))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M)
            cell.metadata["alts"] = [
                output.metadata.get(kind, {}).get("alt", "")
                for output in cell.outputs
                for kind in output.get("data", ())
                if kind.startswith("image/")
            ]
            if folded(cell):
                cell.metadata["tags"] = [*cell.metadata.get("tags", ()), "hide-output"]
    return notebook


def describe(app: Sphinx, doctree: nodes.document) -> None:
    """Give each picture among the outputs the alt text that it has in the notebook."""
    for cell in doctree.findall(nodes.container):
        if cell.get("nb_element") == "cell_code":
            pictures = cell.findall(nodes.image)
            for picture, alt in zip(
                pictures, cell["cell_metadata"]["alts"], strict=True
            ):
                picture["alt"] = alt


def definitions(glossary: nodes.document) -> dict[str, str]:
    """Return the first paragraph under each term of the glossary, by the term's id."""
    return {
        name: next(section.findall(nodes.paragraph)).astext()
        for section in glossary.findall(nodes.section)
        if not any(section.findall(nodes.section, include_self=False))
        for name in section["ids"]
    }


def write_definitions(app: Sphinx, error: Exception | None) -> None:
    """Write the glossary as a script, from which course.js takes what it shows."""
    if error is None and GLOSSARY in app.env.found_docs:
        found = definitions(app.env.get_doctree(GLOSSARY))
        target = Path(app.outdir, "_static", "glossary.js")
        target.write_text(f"const GLOSSARY = {json.dumps(found)};\n", encoding="utf-8")


def escape(
    app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    """Let docstrings mean what they say: only `code` and *emphasis* are markup."""
    text = MARKUP.sub(lambda found: found[1] or f"\\{found[0]}", "\n".join(lines))
    lines[:] = text.split("\n")


def lead(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Let the title lead to the front page, which Sphinx doesn't know.

    The theme's button for Colab leads to the notebooks that install the course.
    """
    context["theme_logo_link"] = context["pathto"]("index")
    for group in context.get("header_buttons", ()):
        for button in group.get("buttons", ()):
            if button["text"] == "Colab":
                button["url"] = re.sub(
                    "/blob/[^/]+/", f"/blob/{COLAB_BRANCH}/", button["url"]
                )


def _inline(self: SphinxTranslator, node: nodes.math) -> None:
    self.body.append(formula(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(self: SphinxTranslator, node: nodes.math_block) -> None:
    text = formula(node.astext(), "block")
    self.body.append(text.replace("<math ", '<math tabindex="0" ', 1))  # may scroll
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx what there is."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("doctree-read", describe)
    app.connect("html-page-context", lead, priority=900)  # after the theme
    app.connect("autodoc-process-docstring", escape, priority=400)  # before napoleon
    app.connect("build-finished", write_definitions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
