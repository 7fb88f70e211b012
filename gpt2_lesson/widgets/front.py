"""The front page: a trained model that runs in the page, in plain JavaScript."""

import base64
import gzip
import html
import json
import struct
from collections.abc import Mapping

import numpy as np
import torch

from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.tokenizer import Tokenizer
from gpt2_lesson.widgets.capture import capture
from gpt2_lesson.widgets.figure import POLICY, script, source
from gpt2_lesson.widgets.labels import head_labels
from gpt2_lesson.widgets.packing import as_json

MOST_PARAMETERS = 10_000_000  # of a model that a phone runs at a reader's pace
LESSONS = {
    "attention": "01",
    "generation": "06",
    "gpt2_model": "07",
    "looking_inside": "12",
}
STORY = "One foggy night Mia found a "  # a prompt for the model of the course
EXAMPLES = ("Once upon a time", "The cat sat on the", "zzz qqq 123")
NAMED = ("previous token", "induction", "first token")


def pack_model(model: GPT2Model) -> str:
    """Return the model as text: its configuration and weights, gzipped, in base64.

    Matrices are rounded to float16; readWeights in js/model.js reads it.
    """
    tensors, data = {}, b""
    for name, values in model.state_dict().items():
        half = values.dim() > 1
        array = values.float().cpu().numpy().astype("<f2" if half else "<f4")
        data += b"\0" * (-len(data) % 4)
        tensors[name] = {
            "kind": "f16" if half else "f32",
            "count": array.size,
            "at": len(data),
        }
        data += array.tobytes()
    head = json.dumps({"config": vars(model.config), "tensors": tensors}).encode()
    head += b" " * (-len(head) % 4)
    packed = gzip.compress(struct.pack("<I", len(head)) + head + data, 9, mtime=0)
    return base64.b64encode(packed).decode()


def front_page(
    model: GPT2Model,
    tokenizer: Tokenizer,
    title: str = "GPT-2, lesson by lesson",
    prompt: str = STORY,
    examples: tuple[str, ...] = (),
    lessons: str = "",
    sample: str = "",
    menu: Mapping[str, str] | None = None,
) -> str:
    """Return one HTML page in which `model` runs: no network, no kernel, no library.

    Parameters
    ----------
    model
        A trained GPT-2 of at most 10 million parameters.
    tokenizer
        The one that it was trained with.
    title
        The heading.
    prompt, examples
        The text that the page opens with, and others to choose from.
    lessons
        The address of the folder with the lessons' pages, for links; "" for none.
    sample
        A text of the kind that the model was trained on: heads are named by it.
    menu
        Links under the heading, by what they say.

    Raises
    ------
    ValueError
        For a larger model, a vocabulary that is not the tokenizer's, or no prompt.
    """
    count = sum(p.numel() for p in model.parameters())
    if count > MOST_PARAMETERS:
        raise ValueError(
            f"the model has {count:,} parameters, expected at most "
            f"{MOST_PARAMETERS:,}: a page with it would be too large"
        )
    if model.config.vocab_size != tokenizer.vocab_size:
        raise ValueError(
            f"the model has {model.config.vocab_size} tokens, the "
            f"tokenizer {tokenizer.vocab_size}: expected the same"
        )
    if not prompt:
        raise ValueError("the prompt is empty: give at least one character")
    state = {
        "weights": pack_model(model),
        "vocabulary": vocabulary_of(tokenizer),
        "prompt": prompt,
        "examples": list(examples),
        "heads": head_names(model, tokenizer, sample or prompt),
        "links": {
            word: f"{lessons.rstrip('/')}/{number}_{word}.html" * bool(lessons)
            for word, number in LESSONS.items()
        },
    }
    return PAGE.format(
        policy=POLICY.replace("script-src", "worker-src blob:; script-src"),
        title=html.escape(title),
        count=f"{count:,}",
        menu=_menu(menu or {}),
        style=source("style.css") + source("front.css"),
        state=as_json(state),
        worker=as_json(script("worker")),
        script=script("front"),
    )


def _menu(links: Mapping[str, str]) -> str:
    """Return links as a list, in a page that wears the theme of the site around it."""
    if not links:
        return ""
    items = (
        f'<a href="{html.escape(address)}">{html.escape(text)}</a>'
        for text, address in links.items()
    )
    return f'<nav class="menu" aria-label="course">{"".join(items)}</nav>{THEME}'


def vocabulary_of(tokenizer: Tokenizer) -> dict[str, list] | None:
    """Return what js/tokens.js needs; None for plain bytes."""
    vocabulary = tokenizer.vocabulary
    if not vocabulary.merges and not vocabulary.special:
        return None
    return {
        "tokens": [token.decode("latin-1") for token in vocabulary.tokens],
        "merges": [[*pair, new] for pair, new in vocabulary.merges.items()],
    }


def head_names(model: GPT2Model, tokenizer: Tokenizer, text: str) -> list[str]:
    """Return what kind each head is on a text, "" for none."""
    ids = torch.tensor(tokenizer.encode(text))[: model.config.max_seq_length]
    record = capture(model, ids[None])
    names = np.full(record.weights.shape[:2], "", dtype=object)
    for label in reversed(head_labels(record.weights, ids.numpy())):
        if label.name in NAMED and label.scores is not None:
            names[label.scores >= label.threshold] = label.name
    return names.ravel().tolist()


THEME = """<script>try {
  const { theme } = localStorage; // light or dark, as chosen on the site's other pages
  if (theme) document.documentElement.style.colorScheme = theme;
  if (theme) document.body.dataset.jpThemeLight = theme === "light"; // for figures
} catch {}</script>"""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
{style}
</style></head><body class="front">
<main><h1>{title}</h1>
<p class="lead">A GPT-2 with {count} parameters runs in this page: nothing that you type
leaves it. Type the beginning of a text and see which token comes next, and why.</p>
{menu}
<div id="front"><p role="status">Unpacking the model …</p></div>
</main>
<script type="application/json" id="state">{state}</script>
<script type="application/json" id="worker">{worker}</script>
<script type="module">
{script}
const read = (id) => JSON.parse(document.getElementById(id).textContent);
globalThis.front = mountFront(document.getElementById("front"), read("state"),
                              read("worker"));
</script></body></html>
"""
