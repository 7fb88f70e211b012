"""The figures where readers meet them: JupyterLab, Notebook 7, saved pages, a browser.

The front ends are real, on a free port of this machine; every request elsewhere is cut
off and counted, and at the end there may have been none.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import torch
from browser import PATIENCE, lacks, wait_until
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from gpt2_lesson import GPT2Model, widgets
from gpt2_lesson.authoring.page import page as lesson_page
from gpt2_lesson.bench import figures
from gpt2_lesson.cli import main

CANARY = "Tess </script><img src=x onerror=\"document.title='ran'\"> sat"
CELLS = {
    "figure": f"""
import torch
from gpt2_lesson import GPT2Model, widgets
torch.manual_seed(0)
model = GPT2Model(256, 16, 2, 2, 80, 32)
text = {CANARY!r}
record = widgets.capture(model, torch.tensor([list(text.encode())]))
widgets.attention(record)""",
    "live": "live = widgets.explore(model, text=text)\nlive",
    "seen": "print(live.layer, live.head, live.query, live.measure, live.locked, "
    "repr(live.text))",
    "set": "live.layer, live.head, live.query = 1, 0, 5",
    "last": "pass",
}
SETTINGS = {  # what JupyterLab would ask the network for by itself
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "extensionmanager-extension/plugin": {"enabled": False},
}
DEADLINE = PATIENCE / 1000
# Ends when a node has stood still for ten frames: clicks then go where it is.
STILL = """root => new Promise((done) => {
  let before = "", same = 0;
  (function look() {
    const tokens = root.querySelector(".tokens");  // an answer may replace it
    if (!same) tokens?.scrollIntoView({block: "center"});
    const now = tokens && JSON.stringify(tokens.getBoundingClientRect());
    same = now && now === before ? same + 1 : 0;
    before = now;
    if (same === 10) done();
    else requestAnimationFrame(look);
  })();
})"""
OURS = re.compile("srcdoc|blob:|file:")  # where the figures' scripts come from
ADDRESS = {"lab": "lab/tree", "notebook": "notebooks"}


class Server:
    """A Jupyter server of JupyterLab and Notebook 7 in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Start it; wait until it answers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self.folder = f"http://127.0.0.1:{port}", folder / "work"
        self.folder.mkdir()
        for name, setting in SETTINGS.items():
            path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(setting))
        own = {
            f"JUPYTER_{name}_DIR": str(folder / name.lower())
            for name in ("CONFIG", "DATA", "RUNTIME")
        }
        own |= {
            "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
            "IPYTHONDIR": str(folder / "ipython"),
            "OMP_NUM_THREADS": "1",
        }
        command = [
            sys.executable,
            "-m",
            "jupyter",
            "lab",
            "--no-browser",
            "--allow-root",
            f"--port={port}",
            "--ip=127.0.0.1",
            "--ServerApp.port_retries=0",
            f"--ServerApp.root_dir={self.folder}",
            "--IdentityProvider.token=",
            "--ServerApp.password=",
            "--ServerApp.disable_check_xsrf=True",
            "--LabApp.extension_manager=readonly",
            "--LabApp.news_url=",
            "--LabApp.expose_app_in_browser=True",
            "--JupyterNotebookApp.expose_app_in_browser=True",
        ]
        self.log = (folder / "server.log").open("w")
        self.process = subprocess.Popen(
            command, env=os.environ | own, stdout=self.log, stderr=self.log
        )
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            try:
                return self.ask("api/status") and None
            except OSError:
                assert self.process.poll() is None, Path(self.log.name).read_text()
                time.sleep(0.2)
        raise AssertionError(Path(self.log.name).read_text())

    def ask(self, path: str, method: str = "GET"):
        """Return what the server answers, read from JSON."""
        request = urllib.request.Request(f"{self.url}/{path}", method=method)
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            return json.loads(answer.read() or "null")

    def stop_kernels(self) -> None:
        """End all kernels."""
        for session in self.ask("api/sessions"):
            self.ask(f"api/sessions/{session['id']}", "DELETE")

    def stop(self) -> None:
        """End the server and its kernels."""
        self.stop_kernels()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE)
        self.log.close()


@pytest.fixture(scope="session")
def server(chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a running Jupyter server."""
    server = Server(tmp_path_factory.mktemp("jupyter"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def browse(chromium) -> Iterator:
    """Give `browse(url)`, a page that reaches that server or file and nothing else."""
    contexts, outside, errors = [], [], []

    def browse(url: str):
        home = "/".join(url.split("/")[:3])
        context = chromium.new_context(
            viewport={"width": 1280, "height": 1000}, color_scheme="null"
        )  # each frame has its own
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        inside = (home, home.replace("http", "ws"), "data:", "blob:", "about:")

        def gate(route) -> None:
            if route.request.url.startswith(inside):
                return route.continue_()
            outside.append(route.request.url)
            route.abort()

        context.route("**/*", gate)
        page = context.new_page()
        page.on(
            "pageerror",
            lambda error: (
                errors.append(error.stack) if OURS.search(error.stack) else None
            ),
        )
        page.on(
            "websocket",
            lambda socket: (
                outside.append(socket.url)
                if not socket.url.startswith(inside)
                else None
            ),
        )
        page.goto(url)
        return page

    yield browse
    for context in contexts:
        context.close()
    assert outside == []
    assert errors == []


class Front:
    """A notebook that is open in a front end."""

    def __init__(self, page) -> None:
        self.page = page
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")

    def connected(self) -> None:
        """Wait until the kernel is there."""
        wait_until(
            self.page,
            "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status"
            " === 'idle'",
        )

    def command(self, name: str, **words: object) -> None:
        """Run a command of the front end, as its menus do."""
        self.page.evaluate(
            "([name, words]) => jupyterapp.commands.execute(name, words)", [name, words]
        )

    def run(self, cell: int) -> None:
        """Run one cell, and wait until it has run."""
        node = self.page.locator(".jp-Notebook .jp-CodeCell").nth(cell)
        prompt = node.locator(".jp-InputPrompt").first
        before, pressed = prompt.inner_text(), 0.0
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            text = prompt.inner_text()
            if text != before and re.search(r"\d", text):
                return
            if "*" not in text and time.monotonic() > pressed + 3:
                # again: a kernel that is not quite there forgets what it is told
                node.locator(".cm-content").click()
                self.page.keyboard.press("Control+Enter")
                pressed = time.monotonic()
            self.page.wait_for_timeout(50)
        raise AssertionError(f"cell {cell} did not run: {prompt.inner_text()}")

    def seen(self) -> str:
        """Return what Python says the live figure shows."""
        self.run(2)
        return (
            self.page.locator(".jp-CodeCell")
            .nth(2)
            .locator(".jp-OutputArea-output")
            .inner_text()
            .strip()
        )

    def wait_seen(self, expected: str) -> None:
        """Wait until Python has heard of it: a front end holds back quick changes."""
        end = time.monotonic() + DEADLINE
        while (seen := self.seen()) != expected and time.monotonic() < end:
            self.page.wait_for_timeout(200)
        if seen == expected:
            return
        raise AssertionError(f"{seen} is not {expected}")

    def cells(self) -> int:
        """Return the number of cells."""
        return self.page.locator(".jp-Notebook .jp-Cell").count()


@pytest.fixture(scope="module", params=["lab", "notebook"])
def front(request, server: Server, browse) -> Front:
    """Give the notebook of CELLS, open and run in a front end."""
    name = f"{request.param}.ipynb"
    cells = [new_code_cell(source.strip(), id=word) for word, source in CELLS.items()]
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(notebook, server.folder / name)
    front = Front(browse(f"{server.url}/{ADDRESS[request.param]}/{name}?reset"))
    front.kind, front.name = request.param, name
    front.connected()
    front.run(0)
    front.run(1)
    return front


def is_alive(page) -> None:
    """Check that the first figure of a page answers to its controls."""
    frame = page.frame_locator(".gpt2-lesson-figure iframe").first
    frame.locator("#figure[data-ready]").wait_for()
    said = frame.locator(".said").first
    for layer in ("1", "0"):
        frame.get_by_role("combobox", name="layer", exact=True).select_option(layer)
        said.get_by_text(f"layer {layer} head 0:").wait_for()
    wait_until(
        page,
        """() => {
      const frame = document.querySelector(".gpt2-lesson-figure iframe");
      return frame.previousElementSibling.style.display === "none"
        && parseFloat(frame.style.height) > 400 && frame.style.zIndex === "1";
    }""",
    )


def test_a_figure_runs_and_answers(front: Front) -> None:
    is_alive(front.page)
    assert "ran" != front.page.title()


def test_figures_have_the_theme_of_the_front_end(front: Front) -> None:
    """Whatever the system asks for; the live one stands in the notebook itself."""
    root = live(front)
    frame = next(
        frame
        for frame in front.page.frames
        if frame.url == "about:srcdoc" and frame.query_selector("#figure")
    )
    for theme, dark, ground in (
        ("JupyterLab Dark", True, "rgb(22, 24, 28)"),
        ("JupyterLab Light", False, "rgb(255, 255, 255)"),
    ):
        front.command("apputils:change-theme", theme=theme)
        wait_until(
            frame,
            "dark => matchMedia('(prefers-color-scheme: dark)').matches === dark",
            arg=dark,
        )
        for page, selector in ((frame, "#figure"), (front.page, ".live")):
            wait_until(
                page,
                "([selector, ground]) => getComputedStyle(document.querySelector("
                "selector)).backgroundColor === ground",
                arg=[selector, ground],
            )
    root.locator("canvas").first.wait_for()


def live(front: Front):
    """Return the live figure's part of the page, once it is drawn and in view."""
    root = front.page.locator(".live")
    root.locator(".figure[data-ready]").wait_for()
    root.evaluate(STILL)
    return root


def test_what_is_looked_at_is_shared_both_ways(front: Front) -> None:
    root = live(front)
    assert root.locator(".said").first.inner_text().startswith("layer 0 head 0:")
    root.get_by_role("combobox", name="head", exact=True).select_option("1")
    root.get_by_role("combobox", name="as", exact=True).select_option("scores")
    root.locator("button.token").nth(3).click()
    front.wait_seen(f"0 1 3 scores True {CANARY!r}")
    front.run(3)
    root.locator(".said").get_by_text("layer 1 head 0").wait_for()
    assert "(token 5)" in root.locator(".said").first.inner_text()
    assert root.get_by_role("combobox", name="layer", exact=True).input_value() == "1"


def test_a_typed_text_is_read_and_an_error_told_in_words(front: Front) -> None:
    root = live(front)
    box, status = root.get_by_role("textbox"), root.get_by_role("status")
    tokens = root.locator("button.token")
    assert box.input_value() == CANARY and tokens.count() == len(CANARY)
    box.fill("x" * 81)
    box.press("Enter")
    status.get_by_text("the text has 81 tokens, the model reads 80").wait_for()
    assert tokens.count() == len(CANARY)
    box.fill("Tom sa")
    box.press_sequentially("t")  # without Enter, after a pause
    wait_until(
        front.page, "document.querySelectorAll('.live button.token').length === 7"
    )
    assert status.inner_text() == "" and front.seen().endswith("'Tom sat'")
    box.fill(CANARY)
    box.press("Enter")
    wait_until(
        front.page,
        f"document.querySelectorAll('.live button.token').length === {len(CANARY)}",
    )


def test_keys_pressed_in_it_leave_the_notebook_alone(front: Front) -> None:
    root = live(front)
    nodes = root.locator(
        "input, select, button:not([tabindex='-1']):enabled, canvas, "
        "summary, [tabindex='0']"
    )
    text = [cell.inner_text() for cell in front.page.locator(".cm-content").all()]
    before, kinds = front.cells(), set()
    for node in nodes.element_handles()[::-1]:  # the text box last: it renews others
        if not node.is_visible():
            continue
        kinds.add(node.evaluate("node => node.tagName"))
        node.focus()
        for key in ("b", "x", "d d", "ArrowDown", "a", "Escape"):
            for stroke in key.split():
                front.page.keyboard.press(stroke)
            assert front.cells() == before, (
                key,
                node.evaluate("node => node.outerHTML"),
            )
    assert kinds >= {"INPUT", "SELECT", "BUTTON", "CANVAS", "SUMMARY"}
    assert text == [
        cell.inner_text() for cell in front.page.locator(".cm-content").all()
    ]


def test_no_token_runs_as_a_script(front: Front) -> None:
    live(front)
    is_alive(front.page)
    for frame in front.page.frames:
        assert frame.title() != "ran"
    assert front.page.locator(".live img, .live script").count() == 0


def test_reopened_it_lives_without_a_kernel_or_is_a_picture(
    front: Front, server: Server, browse
) -> None:
    front.command("docmanager:save")
    wait_until(front.page, "!jupyterapp.shell.currentWidget.context.model.dirty")
    saved = nbformat.read(server.folder / front.name, as_version=4)
    front.page.close()
    server.stop_kernels()
    data = [cell.outputs[0].data for cell in saved.cells[:2]]
    assert "text/html" in data[0] and "text/html" not in data[1]
    assert all("image/png" in shown for shown in data)
    assert "widgets" not in saved.metadata
    page = browse(f"{server.url}/{ADDRESS[front.kind]}/{front.name}?reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    server.stop_kernels()
    is_alive(page)
    page.close()
    saved.cells[0].source += "  # changed by another program, so not trusted"
    other = f"other-{front.name}"
    nbformat.write(saved, server.folder / other)
    page = browse(f"{server.url}/{ADDRESS[front.kind]}/{other}?reset")
    picture = page.locator(".jp-Notebook .jp-CodeCell img").first
    picture.wait_for()
    assert picture.get_attribute("alt").startswith("Attention map, layer 0 head 0:")
    assert picture.evaluate("image => image.naturalWidth") > 100
    assert page.locator("iframe").count() == 0
    page.close()


# ---------------------------------------------------------------- saved pages


@pytest.fixture(scope="module")
def record() -> widgets.Record:
    """Give what a small model does with a short text of hostile tokens."""
    torch.manual_seed(0)
    model = GPT2Model(256, 16, 2, 2, 80, 32)
    return widgets.capture(
        model,
        torch.tensor([[84, 101, 32, 60]]),
        ["Te", CANARY, " ", "</script><script>"],
    )


def notebook_of(figure: widgets.Figure):
    """Return a notebook that has shown a figure, beside a formula."""
    data, metadata = figure._repr_mimebundle_()
    shown = new_output("execute_result", data, metadata=metadata, execution_count=1)
    text = new_markdown_cell(
        "# A lesson\n\n$$\\sqrt{x}$$\n\n<details><summary>Answer"
        "</summary>\n\n`4`\n</details>\n\n[next](02_b.ipynb)"
    )
    return new_notebook(cells=[text, new_code_cell("f = 1  # one", outputs=[shown])])


@pytest.mark.parametrize("maker", ["page", "lab", "classic"])
def test_a_page_from_disk_is_alive(maker: str, record, browse, tmp_path: Path) -> None:
    notebook = notebook_of(widgets.attention(record))
    if maker == "page":
        text = lesson_page(notebook, tmp_path)
    else:  # nbconvert's own pages, told to load no script from elsewhere
        exporter = HTMLExporter(
            template_name=maker,
            mathjax_url="",
            require_js_url="",
            jquery_url="",
            mermaid_js_url="data:,",
            mermaid_layout_elk_js_url="data:,",
        )
        text = exporter.from_notebook_node(notebook)[0]
    path = tmp_path / "lesson.html"
    path.write_text(text, encoding="utf-8")
    page = browse(path.as_uri())
    is_alive(page)
    assert "ran" not in [frame.title() for frame in page.frames]
    page.close()


# ---------------------------------------------------------------- no barriers


def maps(steps: int) -> torch.Tensor:
    """Return attention maps (steps, 3, 3)."""
    mask = torch.ones(3, 3).tril().log()
    return (torch.randn(steps, 3, 3) + mask).softmax(-1)


FIGURES = {
    "ablation": lambda record: widgets.ablation(
        GPT2Model(256, 16, 2, 2, 80, 32), torch.tensor([[84, 101, 115]]), 115
    ),
    "arithmetic": lambda record: widgets.arithmetic(),
    "attention": widgets.attention,
    "choose": lambda record: widgets.choose(
        {"one": {"weights": maps(1)[0]}, "two": {"weights": maps(1)[0]}}, list("abc")
    ),
    "compare": lambda record: widgets.compare(
        {"scores": maps(1)[0]}, {"scores": maps(1)[0]}
    ),
    "parameters": lambda record: widgets.parameters(GPT2Model(256, 16, 2, 2, 80, 32)),
    "predict": lambda record: widgets.attention(record, predict=True),
    "sampling": widgets.sampling,
    "scrub": lambda record: widgets.scrub(
        maps(3), [0, 10, 20], list("abc"), {"loss": [3.0, 2.0, 1.0]}
    ),
    "trace": widgets.trace,
}
NO_FIGURES = {"Comparison", "Figure", "Record", "ablate_each", "capture", "explore"}


# A figure is a part of a page, whose heading stands outside of it.
AXE = {"rules": {"page-has-heading-one": {"enabled": False}}}


def barriers(page, axe) -> list[str]:
    """Return what axe-core finds on a page that keeps someone out."""
    found = axe.run(page, options=AXE).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:200]} {node['failureSummary'][:200]}"
        for rule in found
        for node in rule["nodes"]
    ]


def test_where_a_browser_is_needed_none_of_its_tests_is_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GPT2_LESSON_NEEDS_BROWSER", "1")
    with pytest.raises(pytest.fail.Exception, match="no axe on this machine"):
        lacks("axe")
    assert "importorskip" + "(" not in Path(__file__).read_text(encoding="utf-8")


def test_every_figure_is_tried() -> None:
    assert set(FIGURES) - {"predict"} == set(widgets.__all__) - NO_FIGURES


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_keeps_nobody_out(name: str, record, open_figure, axe) -> None:
    page = open_figure(FIGURES[name](record))
    for details in page.locator("details").all():
        details.evaluate("node => { node.open = true; }")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert barriers(page, axe) == [], scheme


def test_a_lessons_page_keeps_nobody_out(record, chromium, axe, tmp_path: Path) -> None:
    path = tmp_path / "lesson.html"
    path.write_text(lesson_page(notebook_of(widgets.attention(record)), tmp_path))
    page = chromium.new_page()
    page.set_default_timeout(PATIENCE)
    for scheme, width in [("light", 1280), ("dark", 390)]:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(path.as_uri())
        frame = page.frame_locator("iframe")
        frame.locator("#figure[data-ready]").wait_for()
        room = min(420, width - 48 - 44) - 76  # names beside a map of few tokens
        wait_until(
            page.frames[1],
            "wide => document.querySelector('.att-box canvas').clientWidth === wide",
            arg=4 * min(40, room // 4),
        )
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("math").evaluate("node => node.clientHeight") > 10
        assert barriers(page, axe) == [], scheme
        page.locator("summary").click()
        assert page.locator("details code").is_visible()
    page.close()


WIDE = [  # a line of code, a printed line, a table and a formula
    new_code_cell("x" * 88, outputs=[new_output("stream", text="word " * 60)]),
    new_markdown_cell("|" + " words |" * 8 + "\n" + "|" + "---|" * 8),
    new_markdown_cell("$$\\text{out} = \\text{softmax}(Q K^\\top / \\sqrt{D}) V$$"),
]


def test_nothing_on_a_page_is_wider_than_its_column(
    record, chromium, tmp_path: Path
) -> None:
    """So nothing is cut off and nothing has a scrollbar; figures stay in the column."""
    notebook = notebook_of(widgets.attention(record))
    notebook.cells += WIDE
    path = tmp_path / "lesson.html"
    path.write_text(lesson_page(notebook, tmp_path), encoding="utf-8")
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.goto(path.as_uri())
    page.frame_locator("iframe").locator("#figure[data-ready]").wait_for()
    assert (
        page.evaluate("""() => {
      const { left, right } = document.querySelector("main").getBoundingClientRect();
      return [...document.querySelectorAll("main *")].filter((node) => {
        const box = node.getBoundingClientRect();
        return box.width && (box.left < left || box.right > right)
          || node.tagName === "PRE" && node.scrollWidth > node.clientWidth;
      }).map((node) => node.outerHTML.slice(0, 200));
    }""")
        == []
    )
    page.close()


# ---------------------------------------------------------------- quick enough

SLOW = """
const idle = (ms) => { ms += performance.now(); while (performance.now() < ms); };
addEventListener("pointerover", () => idle(70), true);
idle(400);
"""


@pytest.mark.parametrize("case", figures.CASES.values(), ids=figures.CASES)
def test_the_largest_maps_are_drawn_and_answer(case: tuple, chromium) -> None:
    """`gpt2-lesson bench --figures` says how quickly; here any machine will do."""
    found = figures.measure(widgets.attention(figures.record(*case)), chromium, 1)
    assert found["size in a notebook, MB"] <= 1.1
    assert all(value >= 0 for value in found.values())


def test_a_slow_figure_is_found_out(
    chromium, record, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = widgets.figure.script
    monkeypatch.setattr(widgets.figure, "script", lambda view: quick(view) + SLOW)
    _, paint, stall, hover = figures.measure(  # a browser may miss a stall
        widgets.attention(record), chromium, rounds=3, of=max
    ).values()
    assert paint > 400 and stall > 390 and hover > 70


def test_a_figure_that_asks_outside_is_found_out(
    chromium, record, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = widgets.figure.script
    monkeypatch.setattr(widgets.figure, "POLICY", "script-src 'unsafe-inline'")
    monkeypatch.setattr(
        widgets.figure,
        "script",
        lambda view: quick(view) + 'fetch("https://example.org/seen").catch(() => 0);',
    )
    with pytest.raises(RuntimeError, match=r"https://example\.org/seen"):
        figures.measure(widgets.attention(record), chromium, rounds=1)


def test_a_model_is_not_chosen_for_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--figures", "--model", "gpt2"]) == 2
    assert "--model" in capsys.readouterr().err


def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert main(["bench", "--figures"]) == 2
    assert "apt-get install chromium" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    assert main(["bench", "--figures"]) == 2
    assert "pip install playwright" in capsys.readouterr().err
