"""`gpt2-lesson site`: build the reading site, as web pages that need no server.

Each lesson runs once, with live figures; its outputs are kept in the cache folder until
its code or the package changes. So an interrupted build continues where it stopped.
"""

import argparse
from pathlib import Path

from gpt2_lesson.cli.arguments import add_lessons


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gpt2-lesson site`."""
    parser.description = (
        "Build the reading site. Needs pip install 'gpt2_lesson[site]', no network. "
        "Lessons that are not named are shown with the outputs stored in them.")
    add_lessons(parser)
    parser.add_argument("--out", type=Path, default=Path("site"), metavar="FOLDER",
                        help="folder of the site (default: %(default)s)")
    parser.add_argument("--epub", action="store_true",
                        help="put an e-book into the site too")
    parser.add_argument("--repository", default="", metavar="URL",
                        help="the course's public repository, for launch buttons")


def run(args: argparse.Namespace) -> int:
    """Build the site and print where it is; return 1 if a lesson or a link fails."""
    from gpt2_lesson.authoring.site.build import build_site
    return build_site(args.lessons, args.notebooks, args.out, args.timeout,
                      args.repository, args.epub)
