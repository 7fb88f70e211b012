"""The reading site, built once from two lessons that run and the others as stored."""

import functools
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import PATIENCE, offline_pages, wait_until
from bs4 import BeautifulSoup
from site_checks import common_terms, dead_links, pages, parsed, undescribed

from gpt2_lesson.authoring.notebooks import NOTEBOOKS, folded, lessons, read
from gpt2_lesson.cli import main

pytestmark = pytest.mark.slow
LOOKED_AT = [
    "index",
    "README",
    "notebooks/00_start_here",
    "notebooks/03_multi_head",
    "notebooks/exercises/01_attention/01_attention",
    "notebooks/glossary",
    "notebooks/teaching/README",
    "reference",
    "search",
]
GROUND = "getComputedStyle(document.body).backgroundColor"
GROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 28)"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the folder of a site."""
    folder = tmp_path_factory.mktemp("course") / "site"
    address = "https://github.com/OWNER/REPO"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPT2_LESSON_CACHE", str(folder.parent / "cache"))
        words = ["--out", str(folder), "--epub", "--repository", address]
        assert main(["site", "00", "03", *words]) == 0
    yield folder


@pytest.fixture(scope="module")
def opened(chromium, site: Path) -> Iterator[Callable]:
    """Give a function that opens a page, cut off from everything outside."""
    with offline_pages(chromium) as new_page:

        def open_it(name: str, width: int = 1280, theme: str = "light"):
            page = new_page(
                viewport={"width": width, "height": 900}, reduced_motion="reduce"
            )
            page.emulate_media(color_scheme="null")  # else frames can't follow a page
            stored = f"localStorage.mode = localStorage.theme = '{theme}'"
            page.add_init_script(f"try {{ {stored} }} catch {{}}")  # not in frames
            page.goto((site / name).as_uri())
            return page

        yield open_it


def test_every_link_leads_to_a_place_and_every_picture_is_described(site: Path) -> None:
    assert len(pages(site)) > 3 * len(lessons(NOTEBOOKS))
    assert list(dead_links(site)) == []
    assert list(undescribed(site)) == []


def test_each_lesson_has_its_page_and_can_be_downloaded(site: Path) -> None:
    for path in lessons(NOTEBOOKS):
        page = parsed(site / "notebooks" / f"{path.stem}.html")
        links = [str(link.get("href")) for link in page.find_all("a")]
        assert f"../_sources/notebooks/{path.name}" in links
        copy = site / "_sources" / "notebooks" / path.name
        assert copy.read_bytes() == path.read_bytes()
        assert any(f"/blob/colab/notebooks/{path.name}" in link for link in links)
        hidden = sum(map(folded, read(path).cells))
        assert len(page.select("details.hide.below-input")) == hidden
        assert all("#|" not in cell.text for cell in page.select(".cell_input"))


@pytest.mark.parametrize("width, theme, first", [(390, "light", 0), (1280, "dark", 1)])
def test_nobody_is_kept_out(opened, axe, width: int, theme: str, first: int) -> None:
    for name in [*LOOKED_AT[:first], *LOOKED_AT[first::2]]:
        page = opened(f"{name}.html", width, theme)
        if name == "index":
            page.wait_for_selector("#front[data-ready]")
        found = axe.run(page).response["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        assert [(one["id"], one["nodes"]) for one in serious] == [], name
        page.context.close()


def test_no_page_is_wider_than_a_phone(opened, site: Path) -> None:
    page = opened("index.html", 390)
    for path in pages(site):
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path.name


@pytest.mark.parametrize("width", [390, 1280])
def test_figures_are_alive_and_follow_the_theme(opened, width: int) -> None:
    for name in ("00_start_here", "03_multi_head"):
        page = opened(f"notebooks/{name}.html", width, "dark")
        figures = page.locator(".gpt2-lesson-figure iframe")
        assert figures.count() >= 1
        for theme in ("dark", "light"):
            page.evaluate(
                "(theme) => document.documentElement.dataset.theme = theme", theme
            )
            for figure in figures.element_handles():
                frame = figure.content_frame()
                frame.wait_for_selector("#figure[data-ready]")
                wait_until(frame, f"{GROUND} === '{GROUNDS[theme]}'")
                assert figure.evaluate("node => node.offsetHeight") > 200


def test_from_the_front_page_to_the_first_exercise(opened) -> None:
    page = opened("index.html", 390, "dark")  # a theme chosen on another page
    assert page.evaluate(GROUND) == GROUNDS["dark"]
    page.get_by_role("link", name="Start with lesson 00").click()
    page.get_by_role("link", name="problem set 00").click()
    page.wait_for_url("**/exercises/00_start_here/00_start_here.html")
    page.get_by_role("link", name="GPT-2, lesson by lesson").click()
    page.wait_for_url("**/index.html")


def test_a_term_is_defined_where_it_is_used(opened) -> None:
    page = opened("notebooks/00_start_here.html")
    card, link = page.locator("#term"), page.get_by_role("link", name="logits").first
    assert not card.is_visible()
    link.hover()
    card.wait_for(state="visible")
    assert "softmax" in card.text_content()
    page.keyboard.press("Escape")
    card.wait_for(state="hidden")
    link.focus()
    card.wait_for(state="visible")
    assert link.get_attribute("aria-describedby") == "term"


@pytest.fixture
def served(chromium, site: Path) -> Iterator[tuple]:
    """Give a page, and the address of a server with the site: all that it reaches."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=site)
    handler.log_message = lambda *text: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        home = f"http://127.0.0.1:{server.server_port}/"
        context = chromium.new_context()
        context.route(
            "**",
            lambda route: (
                route.continue_()
                if route.request.url.startswith(home)
                else route.abort()
            ),
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        yield page, home
        context.close()
        server.shutdown()


def test_what_was_read_is_marked_and_kept_in_the_browser(served) -> None:
    """From a server: of pages from a disk, Chromium loses now and then what is kept."""
    page, home = served
    first, other = (
        f"{home}notebooks/{name}.html" for name in ("00_start_here", "03_multi_head")
    )
    page.goto(first)
    assert page.locator("a.read").count() == 0
    page.get_by_role("button", name="Mark as read").click()
    page.goto(other)
    assert page.locator("a.read").all_text_contents() == ["00 Start here"]
    page.goto(first)
    page.get_by_role("button", name="Read", exact=True).click()
    assert page.locator("a.read").count() == 0


def test_the_search_finds_the_terms_of_the_glossary(served) -> None:
    page, home = served
    for term in common_terms(NOTEBOOKS, 30):
        page.goto(f"{home}search.html?q={term}")
        results = page.locator("#search-results a[href*='notebooks/glossary.html']")
        results.first.wait_for()


def test_the_book_has_every_lesson_and_no_script(site: Path) -> None:
    with zipfile.ZipFile(site / "gpt2_lesson.epub") as book:
        names = set(book.namelist())
        for path in lessons(NOTEBOOKS):
            assert f"notebooks/{path.stem}.xhtml" in names
        texts = {
            name: book.read(name).decode() for name in names if name[-6:] == ".xhtml"
        }
    soups = {name: BeautifulSoup(text, "html.parser") for name, text in texts.items()}
    assert soups["notebooks/01_attention.xhtml"].find("math")
    for soup in soups.values():
        assert soup.find(["script", "iframe"]) is None
        assert all(image.get("alt") for image in soup.find_all("img"))
