"""A figure that works in a saved page: no kernel, no network, no widget state."""

import base64
import html
import re
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

from gpt2_lesson.files import atomic_write
from gpt2_lesson.widgets.packing import as_json

MOST_BYTES = 1_100_000  # of one figure in a notebook
MARK = "gpt2-lesson-figure"  # the class of its outermost element
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; "
    "style-src 'unsafe-inline'; img-src data:"
)


class Figure:
    """A figure that is interactive where scripts may run, and a picture elsewhere.

    As the last value of a cell it shows itself. Its page holds all it needs, and runs
    in a frame that can reach neither the notebook nor the network.
    """

    def __init__(
        self,
        view: str,
        state: dict[str, Any],
        picture: bytes,
        alt: str,
        height: int = 560,
    ) -> None:
        """Make the figure drawn by js/VIEW.js from `state` (JSON).

        `picture` (PNG) and `alt` stand for it where scripts do not run. It takes about
        `height` pixels until it is drawn, then as many as it needs. Raises ValueError
        when it would put more than 1.1 MB into a notebook.
        """
        if not alt.strip():
            raise ValueError("alt is empty; say the point of the figure in a sentence")
        self.alt = alt.encode(errors="backslashreplace").decode()  # no half characters
        self.view, self.state, self.picture = view, state, picture
        self.height = max(height, int.from_bytes(picture[20:24]))  # covers the picture
        data, _ = self._repr_mimebundle_()
        size = sum(len(part.encode()) for part in data.values())
        if size > MOST_BYTES:
            raise ValueError(
                f"the figure would take {size / 1e6:.1f} MB, the most for a notebook "
                f"is {MOST_BYTES / 1e6:.1f}: choose some with layers=[...] or "
                "heads=[...], or take fewer tokens"
            )

    def page(self) -> str:
        """Return the figure as a whole HTML page that needs nothing else."""
        return PAGE.format(
            policy=POLICY,
            alt=html.escape(self.alt),
            style=style(),
            state=as_json(self.state),
            view=self.view,
            script=script(self.view),
        )

    def save_html(self, path: str | Path) -> None:
        """Write the figure as a page of its own. Raises OSError."""
        atomic_write(path, self.page())

    def save_png(self, path: str | Path) -> None:
        """Write the still picture. Raises OSError."""
        atomic_write(path, self.picture)

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple:
        data = {
            "text/html": self._frame(),
            "image/png": base64.b64encode(self.picture).decode(),
            "text/plain": self.alt,
        }
        return data, {"image/png": {"alt": self.alt}}

    def _frame(self) -> str:
        """Return the still picture, and over it the page in a frame."""
        return FRAME.format(
            mark=MARK,
            picture=base64.b64encode(self.picture).decode(),
            alt=html.escape(self.alt, quote=True),
            height=self.height,
            host=html.escape(source("host.js"), quote=True),
            page=html.escape(self.page(), quote=True),
        )


def script(view: str) -> str:
    """Return VIEW.js with all that it imports as one script, which defines `mount`.

    The files of js/ are modules for the tests and editors; in a page they are one text,
    so their imports of each other go.
    """
    parts: dict[str, str] = {}

    def add(name: str) -> None:
        text = source(name)
        for other in re.findall(r'^import [^;]*? from "\./([^"]+)";', text, re.M):
            add(str(PurePosixPath(name).parent / other))
        parts.setdefault(name, re.sub(r"^import [^;]*;\n", "", text, flags=re.M))

    add(f"{view}.js")
    text = re.sub(
        r"^export (?=(async )?(function|const|let|class)\b)",
        "",
        "\n".join(parts.values()),
        flags=re.M,
    )
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def style() -> str:
    """Return the look of all figures, as CSS."""
    return source("style.css")


def source(name: str) -> str:
    """Return a file of js/ as text."""
    return files(__package__).joinpath("js", name).read_text(encoding="utf-8")


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{alt}</title><style>
{style}
</style></head><body class="page">
<main><h1>{alt}</h1><div id="figure" class="figure"></div></main>
<script type="application/json" id="state">{state}</script>
<script type="module">
{script}
await mount(document.getElementById("figure"),
            JSON.parse(document.getElementById("state").textContent));
if (parent !== window) {{ // host.js is there, and makes the frame as high as the figure
  const tellHeight = () => parent.postMessage(
    {{ height: Math.ceil(document.body.getBoundingClientRect().height) }}, "*");
  addEventListener("message", tellHeight);
  new ResizeObserver(tellHeight).observe(document.body);
}}
</script></body></html>
"""
FRAME = (
    '<div class="{mark}" style="display:grid;grid-template-columns:minmax(0,1fr)">'
    '<img alt="{alt}" src="data:image/png;base64,{picture}" '
    'style="grid-area:1/1;max-width:100%">'
    '<iframe title="{alt}" sandbox="allow-scripts" style="grid-area:1/1;border:0;'
    'width:100%;height:{height}px;position:relative;z-index:1" onload="{host}" '
    'srcdoc="{page}"></iframe></div>'
)
