"""Generate text with a trained model, with lesson 06's functions."""

import codecs
import sys

import torch
from torch import Tensor
from tqdm import tqdm

from gpt2_lesson import validation
from gpt2_lesson.finetuning import end_of_answer, load_adapter, request_ids
from gpt2_lesson.generation import generate
from gpt2_lesson.runs.devices import choose_device
from gpt2_lesson.runs.models import open_model
from gpt2_lesson.speed import quantize_int8
from gpt2_lesson.tokenizer import Tokenizer

END_OF_TEXT = "<|endoftext|>"


def print_continuation(
    model_name: str,
    prompt: str,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    stop: str,
    device: str,
    adapter: str | None = None,
    request: str | None = None,
    int8: bool = False,
) -> None:
    """Print the prompt and, token by token, its continuation.

    A `request` takes the prompt's place: it gets a newline, and an end to its answer.
    With `int8` the model's matrices are quantised first (lesson 13).
    """
    if not prompt:
        raise ValueError(
            "the prompt is empty: give at least one character, or leave out "
            "--prompt to start after a newline"
        )
    validation.sampling(temperature, top_k, top_p)  # before any output
    validation.whole_number("--max-new-tokens", max_new_tokens, 0)
    if seed is not None:
        validation.seed("--seed", seed)
    device = choose_device(device)
    opened, tokenizer = open_model(model_name)
    if adapter is not None:
        opened = load_adapter(opened, adapter)
    model = (quantize_int8(opened) if int8 else opened).to(device)
    ids, stops = tokenizer.encode(prompt, "token"), stop_ids(tokenizer, stop)
    if request is not None:
        prompt, ids = request + "\n", request_ids(tokenizer, request)
        stops = [end_of_answer(tokenizer)]
    input_ids = torch.tensor([ids], device=device)
    generator = torch.Generator(device)
    generator.manual_seed(generator.seed() if seed is None else seed)
    decoder = codecs.getincrementaldecoder("utf-8")(
        "replace"
    )  # a character may have 4 bytes
    # In a terminal the text itself shows the progress; a log needs no bar.
    no_bar = sys.stdout.isatty() or not sys.stderr.isatty()
    with tqdm(total=max_new_tokens, unit="token", leave=False, disable=no_bar) as bar:

        def show(drawn: Tensor) -> None:
            bar.update()
            if drawn.item() in stops:
                return
            print(decoder.decode(tokenizer.decode_bytes(drawn[0])), end="", flush=True)

        print(prompt.removeprefix("\n"), end="", flush=True)
        generate(
            model,
            input_ids,
            max_new_tokens,
            temperature,
            top_k,
            top_p,
            generator,
            on_token=show,
            stop=stops,
        )
    print(decoder.decode(b"", final=True))


def stop_ids(tokenizer: Tokenizer, stop: str) -> list[int]:
    """Return the id of the token to stop at, or none; ValueError for several."""
    ids = tokenizer.encode(stop, special="token")
    if len(ids) > 1 and stop != END_OF_TEXT:
        raise ValueError(
            f"--stop is {stop!r}, which is {len(ids)} tokens in this vocabulary, "
            "expected one token"
        )
    return ids if len(ids) == 1 else []
