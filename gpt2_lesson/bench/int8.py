"""What int8 weights gain and cost: generation beside float32 and transformers'.

The speed is that of random weights, since it does not depend on them; the cost is that
of the story model, whose stories have a known loss.
"""

import time
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor

from gpt2_lesson.bench.baselines import transformers_model, transformers_text
from gpt2_lesson.bench.ours import CASES
from gpt2_lesson.corpora import story_model
from gpt2_lesson.corpora.stories import stories
from gpt2_lesson.generation import generate
from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.speed import quantize_int8, time_calls
from gpt2_lesson.training import next_token_loss


def bench(model_name: str, rounds: int) -> None:
    """Print how fast `model_name`, one of CASES, generates, and what int8 costs."""
    config, _, _, new_tokens = CASES[model_name]
    torch.manual_seed(0)
    model, theirs = GPT2Model(**asdict(config)), transformers_model(config)
    print(
        f"{model_name}: {sum(p.numel() for p in model.parameters()):,} parameters, "
        f"{torch.get_num_threads()} threads, medians of {rounds} rounds"
    )
    quantized = quantize_int8(model)
    prompt = torch.randint(config.vocab_size, (1, 16))
    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: generate(model, prompt, new_tokens, temperature=0),
        "ours, int8": lambda: generate(quantized, prompt, new_tokens, temperature=0),
    }
    if theirs is not None:
        calls["transformers"] = lambda: transformers_text(theirs, prompt, new_tokens)
    one = torch.get_num_threads() == 1  # then other programs need not count
    seconds = time_calls(calls, rounds, time.process_time if one else time.perf_counter)
    for name, needed in seconds.items():
        ratio = needed / seconds["ours, int8"]
        print(
            f"generation, {name:12} {new_tokens / needed:7.1f} tokens/s"
            + (f", int8 is {ratio:.2f} times as fast" if ratio != 1 else "")
        )
    report_cost()


@torch.no_grad()
def report_cost(count: int = 64, length: int = 200, prompt: int = 40) -> None:
    """Print what int8 changes in the story model: logits, loss, greedy tokens."""
    model = story_model()
    quantized = quantize_int8(model)
    ids = unseen(count, length)
    exact, found = model(ids), quantized(ids)
    same = found.argmax(-1) == exact.argmax(-1)
    print(
        f"the story model on {count} unseen stories: loss {loss(exact, ids):.4f}, in "
        f"int8 {loss(found, ids):.4f} nats per byte\n"
        f"  largest difference of a logit {(found - exact).abs().max():.2f} "
        f"(largest logit {exact.abs().max():.1f})\n"
        f"  most probable token the same at {same.float().mean():.1%} of positions"
    )
    one, two = (
        generate(each, ids[:, :prompt], length - prompt, temperature=0)
        for each in (model, quantized)
    )
    kept = (one == two)[:, prompt:].int().cumprod(1).sum(1).float()
    print(
        f"  greedy texts of {length - prompt} tokens: the same for {kept.median():.0f} "
        f"tokens (median of {count}), then another story"
    )
    for name, texts in (("float32", one), ("int8", two)):
        print(
            f"  loss of float32 on the texts by {name}: {loss(model(texts), texts):.4f}"
        )


def loss(logits: Tensor, ids: Tensor) -> float:
    """Return the loss in nats per byte."""
    return next_token_loss(logits, ids).item()


def unseen(count: int, length: int) -> Tensor:
    """Return the beginnings (count, length) of stories that the model has not seen."""
    texts = [f"\n{line}" for line in stories(10 * count, seed=13).splitlines()]
    kept = [text.encode()[:length] for text in texts if len(text) > length]
    return torch.tensor([list(text) for text in kept[:count]])
