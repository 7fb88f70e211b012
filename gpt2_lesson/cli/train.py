"""`gpt2-lesson train`: train a GPT-2 on a text with lesson 08's functions."""

import argparse
from pathlib import Path

from gpt2_lesson.cli.arguments import add_device
from gpt2_lesson.runs.presets import PRESETS, RATES
from gpt2_lesson.runs.train import train_run

EXAMPLES = """\
examples:
  gpt2-lesson train --text stories --preset story --out runs/story
  gpt2-lesson train --text my_diary.txt --steps 500 --out runs/diary
  gpt2-lesson train --text python --tokenizer bpe:1024 --out runs/manual
  gpt2-lesson train --out runs/diary --resume          continue after Ctrl-C or a crash
  gpt2-lesson generate runs/diary --prompt "Today "    generate text

  torchrun --nproc-per-node 8 --max-restarts 3 -m gpt2_lesson.cli train --text shards
      --preset gpt2 --batch-size 64 --compile --pad-vocab --out runs/gpt2   on 8 GPUs

Under torchrun every process takes its part of each batch; if one of them dies, torchrun
starts all of them again, and they continue from the last checkpoint. (On several
machines, which must share the folder RUN, restarts need PyTorch's setting
TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1.)

Ctrl-C finishes the step, saves, and stops; a second Ctrl-C stops at once.

presets (d_model x layers), each with its own defaults:
{presets}
  The last four are GPT-2's published sizes; they need a GPU.

tokenizers (the size of the vocabulary decides that of the embedding matrix):
  bytes        every byte is a token: 256
  bpe:N        N tokens, learned from the training part of the text
  gpt2         GPT-2's own 50,257, from the cache folder or the network

the folder RUN then contains
  checkpoint.safetensors  everything needed to continue; written during training
  model.safetensors       the finished model alone
  losses.png, samples.txt the loss curve, and samples of generated text
  settings.json, log.json the settings, and the validation losses so far
  tokenizer.json, ...     the vocabulary, unless tokens are bytes
The run can continue on another machine or device. If its text has moved, say where with
--text.
"""


def preset_lines() -> str:
    """Return the presets and their defaults, for the help text."""
    names = ("steps", "batch-size", "seq-length", "max-lr", "optimizer")
    rows: list[tuple[str, ...]] = [("", "", *names)]
    for name, (config, settings) in PRESETS.items():
        values = [getattr(settings, key.replace("-", "_")) for key in names]
        size = f"{config.d_model} x {config.num_layers}"
        rows.append((name, size, *map(str, values)))
    lines = ("  {:12} {:>9} {:>6} {:>11} {:>11} {:>8}  {}".format(*row) for row in rows)
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gpt2-lesson train`; most defaults come from the preset."""
    parser.description = "Train a GPT-2 on a text, and report its loss and samples."
    parser.usage = (
        "gpt2-lesson train --out RUN [--text TEXT] [--preset NAME] [options]\n"
        "       gpt2-lesson train --out RUN --resume [options]"
    )
    parser.epilog = EXAMPLES.format(presets=preset_lines())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--out", metavar="RUN", required=True, help="the folder to create for this run")
    add("--resume", action="store_true", help="continue RUN where it stopped")
    add("--text", metavar="TEXT", help="stories (default), python, tinyshakespeare, a "
        "file, or a folder of gpt2-lesson tokenize")
    add("--tokenizer", metavar="KIND", help="bytes (default), bpe:N, or gpt2")
    add("--preset", choices=PRESETS, help="the model and its settings (default: demo)")
    add("--steps", type=int, help="how many steps to train (default: the preset's)")
    add("--batch-size", type=int,
        help="windows in a batch, of all processes together (default: the preset's)")
    add("--accumulation", type=int, help="batches in a step (default: the preset's)")
    add("--seq-length", type=int, help="tokens in a window, one more than the context "
        "window (default: the preset's)")
    add("--max-lr", type=float, help="highest learning rate (default: the preset's)")
    add("--warmup-steps", type=int, help="steps to its maximum (default: the preset's)")
    add("--optimizer", choices=RATES, help="adamw or muon (default: the preset's)")
    add("--precision", choices=("auto", "float32", "bf16"),
        help="bf16 is faster on machines that support it (default: auto)")
    add("--dropout", type=float,
        help="fraction of values set to 0 in training (default: the preset's)")
    add("--seed", type=int, help="seed of all random numbers (default: 0)")
    add_device(parser, default=None)
    add("--save-every", type=int, help="steps between checkpoints (default: 100)")
    add("--parallel", choices=("ddp", "fsdp"), help="under torchrun: each process has "
        "the whole model (default: ddp), or a part of it (fsdp)")
    add("--compile", action="store_true", default=None,
        help="use torch.compile (default: no)")
    add("--pad-vocab", action="store_true", default=None,
        help="compute logits for a multiple of 64 tokens, for a GPU (default: no)")
    add("--sample-every", type=int, metavar="STEPS",
        help="steps between two samples (default: a tenth of all steps)")


def run(args: argparse.Namespace) -> int:
    """Train as the arguments say; return the exit status.

    0: done; 130 and 143: stopped by Ctrl-C, by SIGTERM, and saved.
    """
    given = {name: value for name, value in vars(args).items() if value is not None}
    return train_run(Path(args.out), given, args.resume)
