"""Lesson 03: attention that remembers, and generation with it (catalogue: K)."""

from dataclasses import replace

import torch
from torch import Generator, Tensor

from gpt2_lesson.checks.exercise import Clue, Exercise, Mistake, RunProbe
from gpt2_lesson.checks.exercises.attention import WEIGHTING, effective_scale
from gpt2_lesson.checks.fakes.cache import (
    RememberingModel,
    by_chunks,
    calls,
    kept,
    kept_at_crash,
    tokens_read,
    two_texts,
)
from gpt2_lesson.checks.probing import Probe

# --- the right answers ----------------------------------------------------------------

_CACHED_ATTENTION = """\
def cached_attention(q, k, v, cache, layer):
    if layer in cache:
        old_k, old_v = cache[layer]
        k = torch.cat([old_k, k], dim=-2)
        v = torch.cat([old_v, v], dim=-2)
    cache[layer] = (k, v)
    new, length = q.size(-2), k.size(-2)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    allowed = torch.ones(new, length, dtype=torch.bool).tril(length - new)
    scores = scores.masked_fill(~allowed, -torch.inf)
    weights = scores.softmax(-1)
    return weights @ v"""

_GENERATE_CACHED = """\
def generate_cached(model, input_ids, max_new_tokens):
    ids, limit, read = input_ids, model.max_seq_length, 0
    model.reset()
    for _ in range(max_new_tokens):
        if ids.size(1) > limit:
            model.reset()
            logits = model(ids[:, -limit:], torch.arange(limit))
        else:
            logits = model(ids[:, read:], torch.arange(read, ids.size(1)))
        read = ids.size(1)
        ids = torch.cat([ids, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids"""

# --- probes ---------------------------------------------------------------------------


def _qkv(g: Generator, layers: int, b: int, h: int, t: int, d: int
         ) -> list[list[Tensor]]:
    """Return q, k and v, each a list of one (B, H, T, D) for each layer."""
    parts = 1.5 * torch.randn(3, layers, b, h, t, d, generator=g)
    return [list(part) for part in parts]


_SHOWN = "1 token, 2, then 1, v is the identity: the result is the weights"


def _identity(g: Generator) -> Probe:
    q, k, _ = _qkv(g, 1, 1, 1, 4, 4)
    return Probe(_SHOWN, (q, k, [torch.eye(4)[None, None]], (1, 2, 1)), by_chunks)


def attention_probes(g: Generator) -> list[Probe]:
    """Return the same tokens in other portions: one by one, a prefill, chunks."""
    letters = {"L": 1, "B": 2, "H": 3, "T": 6, "D": 4}

    def chunks(name: str, *sizes: int, layers: int = 1, adapter=by_chunks) -> Probe:
        return Probe(name, (*_qkv(g, layers, 2, 3, sum(sizes), 4), sizes), adapter,
                     letters if layers == 1 and sum(sizes) == 6 else {})

    return [chunks("one token at a time: q, k, v (2, 3, 1, 4)", 1, 1, 1, 1, 1, 1),
            chunks("all 6 tokens at once: q, k, v (2, 3, 6, 4)", 6),
            chunks("5 tokens first (2, 3, 5, 4), then one at a time", 5, 1, 1),
            chunks("chunks of 3, 2 and 2: q, k, v (2, 3, T, 4)", 3, 2, 2),
            _identity(g),
            chunks("two layers, 2 tokens, then one at a time", 2, 1, 1, layers=2),
            chunks("how many numbers are kept (2 x B x H x T x D = 288)", 2, 3, 1,
                   adapter=kept),
            chunks("three chunks of 2: what is kept if it crashes", 2, 2, 2,
                   adapter=kept_at_crash)]


def _model(g: Generator, limit: int = 64) -> RememberingModel:
    seed = int(torch.randint(1000, (1,), generator=g))
    return RememberingModel(max_seq_length=limit, seed=seed)


def generation_probes(g: Generator) -> list[Probe]:
    """Return prompts of 5 and 1, two in a row, one at the end of the context."""
    def ids(b: int, t: int) -> Tensor:
        return torch.randint(23, (b, t), generator=g)

    return [Probe("a prompt of 5 tokens, 4 new ones", (_model(g), ids(2, 5), 4),
                  sizes={"B": 2, "T": 5, "T + n": 9}),
            Probe("a prompt of 1 token, 6 new ones", (_model(g), ids(3, 1), 6)),
            Probe("one text, one new token", (_model(g), ids(1, 4), 1)),
            Probe("no new token", (_model(g), ids(2, 4), 0)),
            Probe("a second prompt, on the same model",
                  (_model(g), ids(2, 3), ids(2, 4), 5), two_texts),
            Probe("how many tokens are read: 5 in the prompt, 4 new",
                  (_model(g), ids(1, 5), 4), tokens_read),
            Probe("5 tokens and 6 new ones, max_seq_length 8",
                  (_model(g, 8), ids(2, 5), 6)),
            Probe("a prompt of 10 tokens, max_seq_length 8",
                  (_model(g, 8), ids(2, 10), 3))]


# --- what can be read out when nothing matches ----------------------------------------


def attention_read_out(run: RunProbe, g: Generator) -> list[Clue]:
    """Return which tokens each attends to: missing and future ones, sums, scale."""
    probe = _identity(g)
    value = run(probe).value
    if not isinstance(value, Tensor) or value.shape != (1, 1, 1, 4, 4):
        return []
    if run(replace(probe, adapter=kept)).value == 0:
        return [Clue("empty", "after the calls the cache is still empty: nothing is "
                     "stored in the dictionary that was passed")]
    weights = value[0, 0, 0]
    if not weights.isfinite().all():
        bad = (~weights.isfinite()).any(-1).nonzero().flatten().tolist()
        return [Clue("nan rows", f"the weights of token {bad[0]} contain nan")]
    for t, row in enumerate(weights):
        seen = (row.abs() > 1e-7).nonzero().flatten().tolist()
        if seen != list(range(t + 1)):
            return [Clue("seen", f"when the tokens come as 0, then 1 and 2 together, "
                         f"then 3, each with its own value, the result of token {t} is "
                         f"an average of the values of {_tokens(seen)}, expected "
                         f"{_tokens(range(t + 1))}")]
    sums = weights.sum(-1)
    if not sums.allclose(torch.ones(4), atol=1e-4):
        return [Clue("row sums", "every token attends to the right ones, but its "
                     f"weights add up to {sums.min():.3g} to {sums.max():.3g}, "
                     "expected 1")]
    (q,), (k,) = (part[0] for part in probe.args[:2])            # (T, D) each
    return effective_scale(weights[None], q @ k.transpose(-2, -1), q.size(-1))


def _tokens(places: list[int] | range) -> str:
    return ", ".join(map(str, places)) or "none"


def generation_read_out(run: RunProbe, g: Generator) -> list[Clue]:
    """Return the first call of the model with other positions than the text has."""
    ids = torch.randint(23, (2, 5), generator=g)
    log = run(Probe("calls", (_model(g), ids, 4), calls)).value
    if not isinstance(log, list):
        return []
    place = 0
    for call, positions in enumerate(log, 1):
        wanted = list(range(place, place + len(positions)))
        if positions != wanted:
            return [Clue("positions", f"call {call} of the model gets the positions "
                         f"{_tokens(positions)}; {place} tokens have been read, so the "
                         f"next are at {_tokens(wanted)}")]
        place += len(positions)
    if place < 8:
        return [Clue("unread", f"of 5 tokens and 4 new ones the model was given only "
                     f"{place} to read")]
    return []


# --- mistakes -------------------------------------------------------------------------

_Q_MASK = "The queries are the LAST tokens of the text. Which keys may the first see?"
_Q_JOIN = "Keys are (B, H, T, D). Along which axis does a text grow?"

ATTENTION = (
    Mistake("K3", "the mask cut by columns, not by the rows of the queries",
            edit=("torch.ones(new, length, dtype=torch.bool).tril(length - new)",
                  "torch.ones(length, length, dtype=torch.bool).tril()[:, -new:]"),
            why="the first chunk is right, then the shapes do not fit",
            question=_Q_MASK),
    Mistake("K4", "the mask aligned at the top left (is_causal=True, or tril())",
            edit=("length - new)", ")"), question=_Q_MASK,
            why="a single new token sees only token 0: its weights are 1, 0, 0, ..."),
    Mistake("K5", "no mask at all",
            edit=("scores.masked_fill(~allowed, -torch.inf)", "scores"),
            question=_Q_MASK,
            why="one token at a time is right; in a chunk earlier tokens see later "
                "ones"),
    Mistake("K5p", "no mask in the first chunk (the prefill)",
            edit=("length - new)", "length - new if new < length else length)"),
            why="later chunks are right, but the prompt's tokens see their future",
            question=_Q_MASK),
    Mistake("K12", "a later chunk is treated as one query, without a mask",
            edit=("length - new)", "length - new if new == length else length)"),
            why="the prefill and single tokens are right, later chunks of 2 or more "
                "wrong", question=_Q_MASK),
    Mistake("K12o", "the mask shows one token too many",
            edit=("length - new)", "length - new + 1)"), question=_Q_MASK,
            why="in a chunk each token sees the next one"),
    Mistake("K12s", "the mask hides the token itself",
            edit=("length - new)", "length - new - 1)"), question=_Q_MASK,
            why="the very first token has no key to attend to: nan"),
    Mistake("K6", "new keys concatenated along the heads' axis",
            edit=[("[old_k, k], dim=-2", "[old_k, k], dim=1"),
                  ("[old_v, v], dim=-2", "[old_v, v], dim=1")], question=_Q_JOIN,
            why="the second chunk has twice as many heads"),
    Mistake("K6b", "new keys concatenated along the batch axis",
            edit=[("[old_k, k], dim=-2", "[old_k, k], dim=0"),
                  ("[old_v, v], dim=-2", "[old_v, v], dim=0")], question=_Q_JOIN,
            why="the second chunk has twice as many examples"),
    Mistake("K6d", "new keys concatenated along the channels",
            edit=[("[old_k, k], dim=-2", "[old_k, k], dim=-1"),
                  ("[old_v, v], dim=-2", "[old_v, v], dim=-1")], question=_Q_JOIN,
            why="q has D channels, the keys have 2D"),
    Mistake("K7", "one cache for all layers",
            edit=("    if layer in cache:", "    layer = 0\n    if layer in cache:"),
            why="with two layers each reads the keys of the other",
            question="Are the keys of layer 0 and layer 1 the same?"),
    Mistake("K0", "the new keys and values are never stored after the first chunk",
            edit=("cache[layer] = (k, v)", "cache.setdefault(layer, (k, v))"),
            why="a token sees the first chunk and itself, nothing in between",
            question="How does the next call know about this token?"),
    Mistake("K0n", "nothing is stored: after a call the cache is still empty",
            edit=("cache[layer] = (k, v)", "cache = {layer: (k, v)}"),
            why="each chunk sees only itself; `cache = {...}` makes another "
                "dictionary, and leaves the one that was passed as it was",
            question="How does the next call know about this token?"),
    Mistake("K0f", "the cache is overwritten: what came before is forgotten",
            edit=("        k = torch.cat([old_k, k], dim=-2)\n"
                  "        v = torch.cat([old_v, v], dim=-2)\n",
                  ""),
            why="a token sees only its own chunk",
            question="What is left of the first chunk when the third comes?",
            where="where are old and new joined?"),
    Mistake("K0o", "new keys put in front of the old ones",
            edit=[("[old_k, k]", "[k, old_k]"), ("[old_v, v]", "[v, old_v]")],
            why="the mask counts from the oldest to the newest, and hides the wrong "
                "keys", question="In which order does the mask expect the keys?"),
    Mistake("K0v", "only the keys are joined to the stored ones, not the values",
            edit=[("    if layer in cache:", "    old_v = v\n    if layer in cache:"),
                  ("cache[layer] = (k, v)", "cache[layer] = (k, old_v)")],
            why="more keys than values: the shapes do not fit from the third chunk on",
            question="What is averaged: keys or values?",
            where="is v treated like k, line for line?", fix="join and store both"),
    Mistake("K9", "new keys and values stored twice",
            edit=[("    if layer in cache:",
                   "    last_k, last_v = k, v\n    if layer in cache:"),
                  ("cache[layer] = (k, v)",
                   "cache[layer] = (torch.cat([k, last_k], dim=-2), torch.cat([v, "
                   "last_v], dim=-2))")],
            why="the cache is longer than the text",
            question="How long is the cache after 5 tokens?",
            where="count the places that append", fix="append once per call"),
    Mistake("K11", "right, but the queries are kept too",
            edit=("cache[layer] = (k, v)",
                  "cache[layer] = (k, v)\n"
                  "    cache.setdefault(('q', layer), []).append(q)"),
            why="half as much memory again, for something that no later token reads",
            question="Which of q, k and v does a later token attend to?"),
    Mistake("K13", "only the last token's result is returned",
            edit=("weights @ v", "weights[..., -1:, :] @ v"),
            why="a chunk of T tokens must give T results",
            question="How many queries were passed?"),
    *(replace(one, name="softmax over the queries (dim=-2)",
              why="a single query gets the weight 1 on every key")
      if one.id == "A8" else one for one in WEIGHTING if one.id in ("A1", "A8")),
)

_Q_PLACE = "7 tokens were read, and one more comes. At which position is it?"
_Q_FEED = "Which tokens does the model not know yet?"

GENERATION = (
    Mistake("K1", "position 0 for every new token",
            edit=("torch.arange(read, ids.size(1))",
                  "torch.arange(ids.size(1) - read)"), question=_Q_PLACE,
            why="the prompt is read correctly, but from the second new token on "
                "everything is wrong"),
    Mistake("K2", "the position grows by the prompt's length in every step",
            edit=[("model.max_seq_length, 0\n",
                   "model.max_seq_length, 0\n    start = 0\n"),
                  ("torch.arange(read, ids.size(1))",
                   "torch.arange(start, start + ids.size(1) - read)"),
                  ("        read = ids",
                   "        start += input_ids.size(1)\n        read = ids")],
            why="right for a prompt of 1 token; with 5 the positions are 5, 10, 15, "
                "...", question=_Q_PLACE,
            where="what do you add to the offset after a call?",
            fix="start = ids.size(1), before the new token is joined: so many tokens "
                "have been read, after a restart too"),
    Mistake("K2l", "positions one too late after the prompt",
            edit=("torch.arange(read, ids.size(1))",
                  "torch.arange(read, ids.size(1)) + (read > 0)"), question=_Q_PLACE,
            why="the first new token is read at T + 1, expected T"),
    Mistake("K2e", "positions one too early after the prompt",
            edit=("torch.arange(read, ids.size(1))",
                  "torch.arange(read, ids.size(1)) - (read > 0)"), question=_Q_PLACE,
            why="the first new token is read at T - 1, the position of the prompt's "
                "last token"),
    Mistake("K1s", "the position stays at T for every new token",
            edit=("torch.arange(read, ids.size(1))",
                  "torch.arange(ids.size(1) - read) + min(read, input_ids.size(1))"),
            why="right for two new tokens, then wrong", question=_Q_PLACE),
    Mistake("K8", "the model is not reset before a new prompt",
            edit=("    model.reset()\n    for", "    for"),
            why="the first text is right; the second one still knows the first",
            question="What does the model remember when your function is called again?",
            where="what happens before the loop?"),
    Mistake("K9", "the whole text is read again in every step, on top of the memory",
            edit=[("ids[:, read:]", "ids"),
                  ("torch.arange(read, ids.size(1))", "torch.arange(ids.size(1))")],
            why="the memory contains the prompt twice, three times, ...",
            question=_Q_FEED),
    Mistake("K11", "right, but the memory is never used: everything is read again in "
                   "each step",
            edit=[("        else:", "        else:\n            model.reset()"),
                  ("ids[:, read:]", "ids"),
                  ("torch.arange(read, ids.size(1))", "torch.arange(ids.size(1))")],
            why="every token is read again and again", question=_Q_FEED),
    Mistake("K9b", "the second-to-last token is read again with each new one",
            edit=("        else:",
                  "        else:\n            read = max(read - 1, 0)"),
                  question=_Q_FEED,
            why="some tokens are in the memory twice"),
    Mistake("K10", "max_seq_length is ignored",
            edit=("ids.size(1) > limit", "False"),
            why="IndexError as soon as the text is longer than the context",
            question="There is no position max_seq_length. What can still be read?",
            where="compare ids.size(1) with model.max_seq_length in each step"),
    Mistake("K10r", "past the context the model is not reset",
            edit=("            model.reset()\n", ""),
            why="right up to max_seq_length; then tokens are read again on top of the "
                "memory",
            question="What does the model still remember when it reads the last tokens "
                 "again?", where="what happens before ids[:, -limit:] is read?"),
    Mistake("K10c", "past the context every new token gets the last position",
            edit=[("ids.size(1) > limit", "False"),
                  ("torch.arange(read, ids.size(1))",
                   "torch.arange(read, ids.size(1)).clamp(max=limit - 1)")],
            why="right up to max_seq_length, then wrong",
            question="Two tokens at the same position: what was the model trained on?",
            where="what happens to a position that is too large?",
            fix="model.reset(), then ids[:, -limit:] at positions 0, 1, ..."),
    Mistake("K10o", "past the context the oldest tokens are kept, not the newest",
            edit=("ids[:, -limit:]", "ids[:, :limit]"),
            why="the same tokens are read each time, and the same one comes out",
            question="Which tokens does the next one depend on most?"),
    Mistake("G1", "the first position's logits, not the last one's",
            edit=("logits[:, -1]", "logits[:, 0]"),
            why="the choice after the prompt ignores all but its first token",
            question="Which token's logits tell what follows the prompt?"),
    Mistake("G7", "one token chosen for all texts of the batch",
            edit=("logits[:, -1].argmax(-1, keepdim=True)",
                  "logits[:, -1].mean(0).argmax().expand(len(ids), 1)"),
            why="with one text it is right; with several all get the same tokens",
            question="Do all rows continue in the same way?"),
    Mistake("G14", "only the new tokens are returned",
            edit=("return ids", "return ids[:, input_ids.size(1):]"),
            why="the result has n columns, expected T + n",
            question="What should be at the beginning of the result?"),
)

cached_attention = Exercise(
    "cached_attention", "03", "cached_attention(q, k, v, cache, layer) -> (B, H, T, D)",
    make_probes=attention_probes, mistakes=ATTENTION, read_out=attention_read_out,
    crashes=((r"KeyError", "cache is {} at first: cache.get(layer), or "
              "`if layer in cache`"),
             (r"size of tensor a|must match the size|Expected size|batch2|Sizes of "
              "tensors", "keys and values grow along the tokens (dim=-2), and the mask "
              "has a row for each new token, a column for each token so far"),),
    hints=("Three steps: concatenate the stored keys and values with the new ones, "
           "store them, and attend with a mask for Tq queries that are the last of Tk "
           "tokens.",
           "Feed 5 tokens one by one, and all at once: the results must be equal.",
           "torch.cat([old, new], dim=-2) and torch.ones(Tq, Tk).tril(Tk - Tq)"),
    show=_SHOWN, solution=_CACHED_ATTENTION)

generate_cached = Exercise(
    "generate_cached", "03",                     # optional: asked for by no set
    "generate_cached(model, input_ids, max_new_tokens) -> (B, T + max_new_tokens)",
    make_probes=generation_probes, mistakes=GENERATION, read_out=generation_read_out,
    crashes=((r"IndexError: position", "print the positions that you pass: after 5 "
                                       "tokens the next is at position 5. Does the "
                                       "text have more tokens than there are "
                                       "positions? Then reset, and read its last ones "
                                       "again, from 0 on"),
             (r"UnboundLocalError", "a name is set in one branch only, and the other "
                                    "one was taken: past max_seq_length no `new` is "
                                    "made. ids.size(1) exists in both"),
             (r"remembered from before", "the model still remembers another batch: "
              "reset it")),
    hints=("The model remembers. In each step it needs only what it has not read, and "
           "the positions of that.",
           "Print the positions of each call for a prompt of 5: 0 1 2 3 4, then 5, "
           "then 6.",
           "model(ids[:, read:], torch.arange(read, ids.size(1)))"),
    show="a prompt of 5 tokens, 4 new ones", solution=_GENERATE_CACHED)

generate_cached_to_repair = generate_cached.to_repair("generate_cached_to_repair", "K2")
