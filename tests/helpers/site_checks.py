"""What must hold of every page of the reading site."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
from bs4 import BeautifulSoup


@cache
def parsed(path: Path) -> BeautifulSoup:
    """Return a page as a tree."""
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def places(path: Path) -> set[str]:
    """Return what links into a page may name."""
    return {str(node["id"]) for node in parsed(path).select("[id]")}


def pages(site: Path) -> list[Path]:
    """Return all pages of a site."""
    return sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)


def dead_links(site: Path) -> Iterator[str]:
    """Yield each link, picture and script of a page that leads nowhere, or outside.

    A link may lead outside; what a page loads by itself may not.
    """
    for path in pages(site):
        for node in parsed(path).select("[href], [src]"):
            address = urlsplit(str(node.get("href", node.get("src"))))
            name = f"{path.relative_to(site)}: {str(node)[:120]}"
            if address.scheme or address.netloc:
                if node.name != "a" and address.scheme != "data":
                    yield f"from outside, {name}"
                continue
            target = path.parent / unquote(address.path) if address.path else path
            if not target.is_file():
                yield f"no file, {name}"
            elif address.fragment and target.suffix == ".html":
                if unquote(address.fragment) not in places(target):
                    yield f"no such place, {name}"


def undescribed(site: Path) -> Iterator[str]:
    """Yield each picture without an alternative text."""
    for path in pages(site):
        for image in parsed(path).find_all("img"):
            if not str(image.get("alt", "")).strip():
                yield f"{path.relative_to(site)}: {str(image)[:120]}"


def common_terms(notebooks: Path, count: int) -> list[str]:
    """Return the terms of the glossary that occur most often in the lessons."""
    glossary = (notebooks / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^### (.+)$", glossary, re.M)
    text = "\n".join(
        cell.source
        for path in sorted(notebooks.glob("*.ipynb"))
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "markdown"
    ).lower()
    return sorted(terms, key=lambda term: -text.count(term.lower()))[:count]
