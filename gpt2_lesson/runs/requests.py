"""Requests and answers: a JSONL file, as rows of token ids."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gpt2_lesson import validation
from gpt2_lesson.corpora import load_text
from gpt2_lesson.finetuning import encode_requests, end_of_answer, request_ids
from gpt2_lesson.tokenizer import Tokenizer

EXPECTED = 'expected {"prompt": "...", "answer": "..."}'


@dataclass(frozen=True)
class Requests:
    """Examples prepared for training: ids and targets (N, T), some for validation.

    `prompt` is the first one of the validation part; `sha256` that of the file.
    """

    training: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    prompt: str
    sha256: str

    @property
    def length(self) -> int:
        """The number of tokens in a row."""
        return self.training[0].size(1)


def prepare_requests(path: str, tokenizer: Tokenizer, longest: int) -> Requests:
    """Return the examples of a JSONL file; the last tenth is for validation.

    A row has as many tokens as the longest example, and at most `longest`. Raises
    ValueError, which names the line, for one that cannot be used.
    """
    data = load_text(Path(path))
    examples = read_examples(path, data.decode())
    length = max(
        example_length(f"{path}, line {number}", *example, tokenizer, longest)
        for number, example in examples.items()
    )
    if len(examples) < 2:
        raise ValueError(
            f"{path} has 1 example, expected 2 or more: the last tenth is not trained "
            "on, but used for validation"
        )
    cut = len(examples) - max(1, len(examples) // 10)
    pairs = list(examples.values())
    training, unseen = (
        encode_requests(part, tokenizer, length) for part in (pairs[:cut], pairs[cut:])
    )
    sha256 = hashlib.sha256(data).hexdigest()
    return Requests(training, unseen, pairs[cut][0], sha256)


def read_examples(path: str, text: str) -> dict[int, tuple[str, str]]:
    """Return (prompt, answer) by line number; empty lines are left out."""
    examples = {}
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            examples[number] = read_example(f"{path}, line {number}", line)
    if not examples:
        raise ValueError(f"{path} has no examples: on each line, {EXPECTED}")
    return examples


def read_example(where: str, line: str) -> tuple[str, str]:
    """Return the prompt and the answer of one line; ValueError says what is wrong."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({error}): {EXPECTED}") from None
    if not isinstance(found, dict) or not {"prompt", "answer"} <= found.keys():
        raise ValueError(f"{where} is {validation.shown(found)}, {EXPECTED}")
    for name in ("prompt", "answer"):
        value = found[name]
        if not isinstance(value, str) or (name == "answer" and not value):
            raise ValueError(
                f"{where}: {name} is {validation.shown(value)}, expected a text"
            )
    return found["prompt"], found["answer"]


def example_length(
    where: str, prompt: str, answer: str, tokenizer: Tokenizer, longest: int
) -> int:
    """Return how many tokens an example has; ValueError if it cannot be learned."""
    try:
        request, tokens = request_ids(tokenizer, prompt), tokenizer.encode(answer)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if end_of_answer(tokenizer) in tokens:
        raise ValueError(
            f"{where}: the answer has a newline, which ends an answer in this "
            "vocabulary: write it on one line, or use a model with <|endoftext|>"
        )
    if (length := len(request) + len(tokens) + 1) > longest:
        raise ValueError(
            f"{where} has {length:,} tokens, expected at most {longest:,}: the model "
            "reads no more"
        )
    return length


def as_windows(rows: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return ids and targets (N, T) as `train` takes them: (N T, 2), and the starts."""
    tokens = torch.stack(rows, dim=-1).int()  # (N, T, 2)
    count, length = tokens.shape[:2]
    return tokens.flatten(0, 1), torch.arange(0, count * length, length)
