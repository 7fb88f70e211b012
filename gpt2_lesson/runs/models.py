"""Trained models by name: of a run, of the course, or published."""

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from gpt2_lesson import validation
from gpt2_lesson.checkpoints import load_checkpoint
from gpt2_lesson.corpora import story_model
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.multi_head import KVCache
from gpt2_lesson.real_gpt2 import load_gpt2
from gpt2_lesson.tokenizer import Tokenizer
from gpt2_lesson.vocabulary_files import GPT2_REPOSITORIES


class PaddedGPT2Model(GPT2Model):
    """A GPT2Model that computes logits for a multiple of 64 tokens, and cuts the rest.

    Matrix products of such sizes are faster on GPUs. The parameters, and so all that is
    saved, are those of a GPT2Model: the rows of zeros exist in the forward pass only.
    """

    def forward(self, input_ids: Tensor, cache: KVCache | None = None) -> Tensor:
        size = self.config.vocab_size
        hidden = self.hidden(input_ids, cache)
        head = F.pad(self.tok_emb.weight, (0, 0, 0, -size % 64))
        return F.linear(hidden, head)[..., :size]

    def hidden(self, input_ids: Tensor, cache: KVCache | None) -> Tensor:
        """Return what `GPT2Model.forward` gives to its last line."""
        start = 0 if cache is None else validation.cache(cache).length
        validation.ids_fit(input_ids, start, self.config, self.tok_emb.weight.device)
        positions = self.pos_emb.weight[start : start + input_ids.size(1)]
        x = self.dropout(self.tok_emb(input_ids) + positions)
        for layer, block in enumerate(self.blocks):
            x = block(x, cache, layer)
        return self.ln_final(x)


def open_model(name: str) -> tuple[GPT2Model, Tokenizer]:
    """Return a model and its tokenizer: of a run, of the course, or published.

    Raises FileNotFoundError if there is none, CheckpointError if it cannot be used,
    ValueError if model and tokenizer do not match.
    """
    path = Path(name)
    if name == "stories" and not path.exists():
        return story_model(), Tokenizer()
    if (path / "config.json").is_file() or (
        name in GPT2_REPOSITORIES and not path.exists()
    ):
        model, tokenizer = load_gpt2(name), Tokenizer.load(name)
        vocab_size, padding = tokenizer.vocab_size, model.config.vocab_size % 64 == 0
        if padding and vocab_size < model.config.vocab_size < vocab_size + 1024:
            model = load_gpt2(name, vocab_size=vocab_size)
    else:
        if path.is_dir():
            found = [path / f for f in ("model.safetensors", "checkpoint.safetensors")]
            found = [file for file in found if file.is_file()]
            if not found:
                raise FileNotFoundError(
                    f"the folder {path} has no checkpoint: has the "
                    "training run saved one yet?"
                )
            path = found[0]
        model, tokenizer = load_checkpoint(path), stored_tokenizer(path.parent)
    if model.config.vocab_size != tokenizer.vocab_size:
        raise ValueError(
            f"{name} has a model of {model.config.vocab_size} tokens and a vocabulary "
            f"of {tokenizer.vocab_size}: are its vocab.json and merges.txt there?"
        )
    return model, tokenizer


def stored_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer of a run or of a folder in GPT-2's format; else bytes."""
    if (folder / "vocab.json").exists() or (folder / "tokenizer.json").exists():
        return Tokenizer.load(folder)
    return Tokenizer()
