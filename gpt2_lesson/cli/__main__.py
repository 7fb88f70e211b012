"""`python -m gpt2_lesson.cli` is `gpt2-lesson`."""

import sys

from gpt2_lesson.cli import main

sys.exit(main())
