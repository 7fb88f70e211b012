"""`gpt2-lesson finetune`: train a model further, on requests and answers."""

import argparse
from pathlib import Path

from gpt2_lesson.cli.arguments import add_device
from gpt2_lesson.runs.finetune import FULL_RATE, LORA_RATE, finetune_run

EXAMPLES = """\
examples:
  gpt2-lesson finetune stories --data FILE.jsonl --lora 4 --max-lr 0.01 --out runs/kind
  gpt2-lesson generate stories --adapter runs/kind --request "Nora, bell"
  gpt2-lesson finetune gpt2 --data FILE.jsonl --lora 8 --merge --out runs/helpful
  gpt2-lesson generate runs/helpful --request "What is the capital of France?"
  gpt2-lesson finetune --out runs/kind --resume        continue after Ctrl-C or a crash

FILE has an example on each line, in JSON; the loss counts only the answers:
  {"prompt": "Nora, bell", "answer": "One foggy day Nora found a red bell by the mill."}
The last tenth of the examples is not trained on, but used for validation.

RUN is the same as in `gpt2-lesson generate --help`. The folder DIR then contains
  adapter_config.json, adapter_model.safetensors
                          with --lora: the adapter alone, which the library peft opens
  model.safetensors       without --lora, or with --merge: the finished model
  checkpoint.safetensors  everything needed to continue; written during training
  settings.json, log.json, samples.txt, losses.png
                          the settings, and the losses and answers so far
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `gpt2-lesson finetune`."""
    parser.description = "Train a model further, on requests and answers."
    parser.usage = (
        "gpt2-lesson finetune RUN --data FILE --out DIR [--lora R] [options]\n"
        "       gpt2-lesson finetune --out DIR --resume [options]"
    )
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("model", metavar="RUN", nargs="?", help="a run folder, stories, gpt2, ...")
    add("--data", metavar="FILE", help="the examples, one in JSON on each line")
    add("--out", metavar="DIR", required=True, help="the folder to create")
    add("--resume", action="store_true", help="continue in DIR where it stopped")
    add("--lora", metavar="R", type=int, help="train an adapter of rank R and freeze "
        "the model (default: train the whole model)")
    add("--alpha", type=float, help="the adapter's scale is alpha / R (default: 2 R)")
    add("--merge", action="store_const", const=1, help="also write the model with its "
        "adapter merged")
    add("--steps", type=int, help="how many steps to train (default: 200)")
    add("--batch-size", type=int, help="examples in each step (default: 16)")
    add("--max-lr", type=float, help="highest learning rate (default: "
        f"{LORA_RATE:g} with --lora, else {FULL_RATE:g})")
    add("--precision", choices=("auto", "float32", "bf16"),
        help="bf16 is faster on machines that support it (default: auto)")
    add("--seed", type=int, help="seed of all random numbers (default: 0)")
    add_device(parser, default=None)
    add("--save-every", type=int, metavar="STEPS",
        help="steps between two checkpoints (default: 100)")
    add("--sample-every", type=int, metavar="STEPS",
        help="steps between two samples (default: a tenth of all steps)")


def run(args: argparse.Namespace) -> int:
    """Finetune as the arguments say; return the exit status.

    0: done; 130 and 143: stopped by Ctrl-C, by SIGTERM, and saved.
    """
    given = {name: value for name, value in vars(args).items() if value is not None}
    return finetune_run(Path(args.out), given, args.resume)
