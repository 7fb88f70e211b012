"""The small model that comes with the course, trained on the stories."""

from pathlib import Path

from gpt2_lesson.checkpoints import load_checkpoint
from gpt2_lesson.gpt2_model import GPT2Model

PATH = Path(__file__).with_name("stories.safetensors")


def story_model() -> GPT2Model:
    """Return the shipped model (858,880 parameters, bytes as tokens), in eval mode.

    Raises FileNotFoundError or CheckpointError if its file is missing or damaged.
    """
    return load_checkpoint(PATH).eval()
