"""Kill `save_gpt2` and `Tokenizer.save` at every kind of moment: nothing is lost.

    python tests/slow/kill_saves.py 300

Each trial saves over an older folder in a child process, which kills itself just
before or just after one of its steps on the file system (creating, syncing, renaming
and removing files), or is killed by the parent after a random time. Afterwards the
folder must load, as what was there before or as what was saved.
`test_kill_saves.py` runs a tenth of it.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.real_gpt2 import load_gpt2, save_gpt2
from gpt2_lesson.tokenizer import Tokenizer

STEPS = ("open", "fsync", "replace", "unlink")  # of the module os
IDS = torch.arange(12)[None]
TEXT = "the cat sat on the mat, the rat sat on the cat, a cat is not a rat. " * 3


def models() -> list[GPT2Model]:
    """Return models that any mix of files would confuse: only the heads differ."""
    made = []
    for seed, heads in enumerate((2, 4, 8)):
        torch.manual_seed(seed)
        made.append(GPT2Model(97, 16, heads, 2, 16, 64).eval())
    return made


def tokenizers() -> list[Tokenizer]:
    """Return tokenizers of one size, of which each would read the others' merges."""
    return [Tokenizer.train(text, 270) for text in (TEXT, TEXT[::-1], TEXT.upper())]


def model_content(folder: Path) -> object:
    with warnings.catch_warnings():  # an older config.json beside the weights
        warnings.simplefilter("ignore")
        model = load_gpt2(folder)
    with torch.no_grad():
        return model.config, model(IDS).round(decimals=3).tolist()


def tokenizer_content(folder: Path) -> object:
    return repr(Tokenizer.load(folder).vocabulary)


def foreign_weights(folder: Path) -> None:
    """Take our header away, as if another program had written the model."""
    path = folder / "model.safetensors"
    save_file(load_file(path), path, {"format": "pt"})


def shards(folder: Path) -> None:
    """Make two shards with an index, as another program would."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    path.unlink()
    names, weight_map = sorted(tensors), []
    for i in range(2):
        part = {name: tensors[name] for name in names[i::2]}
        save_file(part, folder / f"part{i}.safetensors")
        weight_map += [f'"{name}": "part{i}.safetensors"' for name in part]
    text = '{"weight_map": {' + ", ".join(weight_map) + "}}"
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def two_files(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def nothing(folder: Path) -> None:
    pass


def die_at(count: int, after: bool) -> None:
    """Let this process kill itself at its `count`th step on the file system."""
    left = [count]

    def deadly(step: Callable) -> Callable:
        def run(*arguments: object, **options: object) -> object:
            left[0] -= 1
            if left[0] == 0 and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = step(*arguments, **options)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return run

    for name in STEPS:
        setattr(os, name, deadly(getattr(os, name)))


def trial(draw: random.Random, folder: Path, kinds: list[tuple]) -> str:
    """Save once over an older folder and be killed; return how it ended."""
    things, save, content, earlier = draw.choice(kinds)
    old, new = draw.sample(things, 2)
    save(old, folder)
    draw.choice(earlier)(folder)
    before = content(folder)
    aimed, count, after = draw.random() < 0.9, draw.randint(1, 14), draw.random() < 0.5
    child = os.fork()
    if child == 0:
        if aimed:
            die_at(count, after)
        while True:
            save(new, folder)
            if aimed:
                os._exit(0)
    if not aimed:
        time.sleep(draw.random() * 0.02)
        os.kill(child, signal.SIGKILL)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    try:
        found = content(folder)
    except Exception as error:
        return f"lost: {type(error).__name__}: {error}"
    with tempfile.TemporaryDirectory() as other:
        save(new, Path(other))
        wanted = content(Path(other))
    save(new, folder)  # and what the kill has left is swept
    if litter := list(folder.glob(".gpt2_lesson-*")):
        return f"litter: {litter}"
    if found not in (before, wanted):
        return "mixed"
    return ("old" if found == before else "new") if killed else "whole"


def main(trials: int, seed: int = 0) -> Counter[str]:
    """Return how many trials ended in which way."""
    torch.set_num_threads(1)
    draw = random.Random(seed)
    kinds = [
        (models(), save_gpt2, model_content, [nothing, foreign_weights, shards]),
        (tokenizers(), Tokenizer.save, tokenizer_content, [nothing, two_files]),
    ]
    ends: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as top:
        for number in range(trials):
            folder = Path(top, str(number))
            ends[trial(draw, folder, kinds)] += 1
            shutil.rmtree(folder)
    return ends


if __name__ == "__main__":
    ended = main(int(sys.argv[1]) if sys.argv[1:] else 300)
    print(dict(ended))
    sys.exit(bool(set(ended) - {"old", "new", "whole"}))
