"""`gpt2-lesson front`: make a page that runs a trained model."""

import argparse
from pathlib import Path

from gpt2_lesson.corpora.stories import stories
from gpt2_lesson.files import atomic_write
from gpt2_lesson.runs.models import open_model
from gpt2_lesson.widgets.front import EXAMPLES, STORY, front_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gpt2-lesson front`."""
    add = parser.add_argument
    add("model", metavar="RUN", help="a run folder, or stories (the course's model)")
    add("--out", type=Path, default=Path("page.html"), metavar="FILE",
        help="the page (default: %(default)s)")
    add("--title", default="A GPT-2 in this page", help="its heading")
    add("--prompt", default="", help="the text that it starts with")
    add("--example", action="append", default=[], metavar="TEXT",
        help="an example text; may be repeated")
    add("--lessons", default="", metavar="URL", help="where the lessons' pages are, as "
        "`gpt2-lesson page` writes them, for links")


def run(args: argparse.Namespace) -> int:
    """Write the page and say how large it is; return 0."""
    model, tokenizer = open_model(args.model)
    ours = args.model == "stories"
    prompt = args.prompt or (STORY if ours else "The ")
    text = front_page(
        model.eval(), tokenizer, title=args.title, prompt=prompt,
        examples=tuple(args.example) or (EXAMPLES if ours else ()),
        lessons=args.lessons, sample=stories(3) if ours else "")
    atomic_write(args.out, text)
    print(f"{args.out.stat().st_size / 1e6:.2f} MB  {args.out}")
    return 0
