"""The checks of the loss, the training step and its parts: entries S and R."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from catalogue import Catalogue, function_of
from torch import nn

from gpt2_lesson import checks, training
from gpt2_lesson.checks.fakes import training_fakes as fakes

# --- the loss -------------------------------------------------------------------------

LOSS = {
    "S1": "return F.cross_entropy(logits.flatten(0, 1), input_ids.flatten(),\n"
    "                       ignore_index=ignore_index)",
    "S1b": "return F.cross_entropy(logits.transpose(1, 2), input_ids,\n"
    "                       ignore_index=ignore_index)",
    "S2": """logits, input_ids = logits[:, :-1], input_ids[:, 1:]
predictions, targets = logits[:, :-1], input_ids[:, 1:]
return F.cross_entropy(predictions.flatten(0, 1), targets.flatten(),
                       ignore_index=ignore_index)""",
    "S3": """return F.cross_entropy(logits[:, 1:].flatten(0, 1),
    input_ids[:, :-1].flatten(), ignore_index=ignore_index)""",
    "S4": """odds = logits[:, :-1].softmax(-1)
return F.cross_entropy(odds.flatten(0, 1), input_ids[:, 1:].flatten(),
                       ignore_index=ignore_index)""",
    "S4x": """log_probs = logits[:, :-1].log_softmax(1)
return F.nll_loss(log_probs.flatten(0, 1), input_ids[:, 1:].flatten(),
                  ignore_index=ignore_index)""",
    "S4y": """log_probs = logits.softmax(1).log()[:, :-1]
return F.nll_loss(log_probs.flatten(0, 1), input_ids[:, 1:].flatten(),
                  ignore_index=ignore_index)""",
    "S4r": """return F.nll_loss(logits[:, :-1].flatten(0, 1),
    input_ids[:, 1:].flatten(), ignore_index=ignore_index)""",
    "S4o": """odds = logits[:, :-1].softmax(-1)
return F.nll_loss(odds.flatten(0, 1), input_ids[:, 1:].flatten(),
                  ignore_index=ignore_index)""",
    "S4s": """log_probs = logits[:, :-1].log_softmax(-1)
return -F.nll_loss(log_probs.flatten(0, 1), input_ids[:, 1:].flatten(),
                   ignore_index=ignore_index)""",
    "S5": """return F.cross_entropy(logits[:, :-1].flatten(0, 1),
    input_ids[:, 1:].flatten(), ignore_index=ignore_index, reduction="sum")""",
    "S5b": """total = F.cross_entropy(logits[:, :-1].transpose(1, 2), input_ids[:, 1:],
    ignore_index=ignore_index, reduction="none").sum(1)
return total.mean()""",
    "S6": """targets = input_ids[:, 1:]
log_probs = logits[:, :-1].softmax(-1).log2()
return F.nll_loss(log_probs.transpose(1, 2), targets, ignore_index=ignore_index)""",
    "S6t": """targets = input_ids[:, 1:]
log_probs = torch.log10(logits[:, :-1].softmax(-1))
return F.nll_loss(log_probs.transpose(1, 2), targets, ignore_index=ignore_index)""",
    "S7": """B, T, V = logits.shape
return F.cross_entropy(logits[:, :-1].reshape(B, V, T - 1), input_ids[:, 1:],
                       ignore_index=ignore_index)""",
    "S8": """losses = F.cross_entropy(logits[:, :-1].flatten(0, 1),
    input_ids[:, 1:].flatten(), ignore_index=ignore_index, reduction="none")
return losses.mean()""",
    "S8d": """return F.cross_entropy(logits[:, :-1].flatten(0, 1),
    input_ids[:, 1:].flatten())""",
    "S8i": """keep = input_ids[:, :-1] != ignore_index
losses = F.cross_entropy(logits[:, :-1].transpose(1, 2),
    input_ids[:, 1:].clamp(min=0), reduction="none")
return losses[keep].mean()""",
    "S10": """return torch.stack([
    F.cross_entropy(row[:-1], ids[1:], ignore_index=ignore_index)
    for row, ids in zip(logits, input_ids)]).mean()""",
    "S11": """return F.cross_entropy(logits[:, -2], input_ids[:, -1],
    ignore_index=ignore_index)""",
    "S12": """predictions = logits.flatten(0, 1)[:-1]
targets = input_ids.flatten()[1:]
return F.cross_entropy(predictions, targets, ignore_index=ignore_index)""",
}
RIGHT_LOSS = """predictions, targets = logits[:, :-1], input_ids[:, 1:]
return F.cross_entropy(predictions.flatten(0, 1), targets.flatten(),
                       ignore_index=ignore_index)"""
LOSS |= {
    "S9": RIGHT_LOSS.replace("F.cross", "torch.exp(F.cross") + ")",
    "S4m": """targets = input_ids[:, 1:]
odds = logits[:, :-1].softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
return -odds[targets != ignore_index].mean().log()""",
    "S4l": RIGHT_LOSS.replace("ignore_index)", "ignore_index, label_smoothing=0.1)"),
    "S4a": "return -logits[:, :-1].log_softmax(-1).mean()",
    "S4g": "return -logits[:, :-1].log_softmax(-1).amax(-1).mean()",
    "S1f": RIGHT_LOSS.replace("logits[:, :-1]", "logits[:, 1:]"),
    "S1l": RIGHT_LOSS.replace("input_ids[:, 1:]", "input_ids[:, :-1]"),
    "S12r": RIGHT_LOSS.replace(
        "logits[:, :-1], input_ids[:, 1:]", "logits, input_ids.roll(-1, 1)"
    ),
    "S10f": RIGHT_LOSS.replace("[:, ", "[:1, "),
    "S8c": """targets = input_ids[:, 1:].clamp(min=0)
return F.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten())""",
}


def loss_by_loops(logits, input_ids, ignore_index=-100):
    losses = []
    for row, ids in zip(logits, input_ids, strict=True):
        for t in range(len(ids) - 1):
            if ids[t + 1] != ignore_index:
                losses.append(row[t].logsumexp(0) - row[t, ids[t + 1]])
    return sum(losses) / len(losses)


def loss_by_mask(logits, input_ids, ignore_index=-100):
    targets = input_ids[:, 1:]
    keep = targets != ignore_index
    log_probs = logits[:, :-1].log_softmax(-1)
    return -log_probs[keep].gather(1, targets[keep][:, None]).mean()


def loss_padded(logits, input_ids, ignore_index=-100):
    last = torch.full_like(input_ids[:, :1], ignore_index)
    targets = torch.cat([input_ids[:, 1:], last], 1)
    return F.cross_entropy(
        logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=ignore_index
    )


def loss_by_class(logits, input_ids, ignore_index=-100):
    criterion = nn.CrossEntropyLoss(ignore_index=ignore_index)
    return criterion(logits[:, :-1, :].permute(0, 2, 1), input_ids[:, 1:])


def loss_from_sum(logits, input_ids, ignore_index=-100):
    targets = input_ids[:, 1:].reshape(-1)
    total = F.cross_entropy(
        logits[:, :-1].reshape(-1, logits.size(-1)),
        targets,
        ignore_index=ignore_index,
        reduction="sum",
    )
    return total / (targets != ignore_index).sum()


def loss_by_nll(logits, input_ids, ignore_index=-100):
    log_probs = F.log_softmax(logits[:, :-1].contiguous(), dim=-1)
    return F.nll_loss(log_probs.mT, input_ids[:, 1:], ignore_index=ignore_index)


def loss_by_softmax(logits, input_ids, ignore_index=-100):
    odds = logits[:, :-1].softmax(-1)
    return F.nll_loss(
        odds.log().flatten(0, 1), input_ids[:, 1:].flatten(), ignore_index=ignore_index
    )


def loss_twice_logged(logits, input_ids, ignore_index=-100):
    """log_softmax before cross_entropy changes nothing: it is right, if odd."""
    return training.next_token_loss(logits.log_softmax(-1), input_ids, ignore_index)


HONEST_LOSS = [
    training.next_token_loss,
    loss_by_loops,
    loss_by_mask,
    loss_padded,
    loss_by_class,
    loss_from_sum,
    loss_by_nll,
    loss_by_softmax,
    loss_twice_logged,
]

# --- one step -------------------------------------------------------------------------

RIGHT_STEP = """\
for group in optimizer.param_groups:
    group["lr"] = lr
optimizer.zero_grad()
total = 0.0
for batch in batches:
    loss = loss_of(model(batch), batch) / len(batches)
    loss.backward()
    total += loss.item()
nn.utils.clip_grad_norm_(model.parameters(), max_norm)
optimizer.step()
return total"""
WRITE = 'for group in optimizer.param_groups:\n    group["lr"] = lr\n'
CLIP = "nn.utils.clip_grad_norm_(model.parameters(), max_norm)\n"


def changed(*pairs, source=RIGHT_STEP):
    """Return the right text with some pieces replaced."""
    for old, new in pairs:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


STEP = {
    "R1": changed(("optimizer.zero_grad()\n", "")),
    "R2": changed(
        ("optimizer.zero_grad()\n", ""),
        ("optimizer.step()", "optimizer.zero_grad()\noptimizer.step()"),
    ),
    "R2c": changed(
        ("optimizer.zero_grad()\n", ""), (CLIP, "optimizer.zero_grad()\n" + CLIP)
    ),
    "R2b": changed(
        ("optimizer.zero_grad()\n", ""), (CLIP, CLIP + "model.zero_grad()\n")
    ),
    "R2a": changed(
        ("optimizer.zero_grad()\n", ""),
        ("    loss.back", "    optimizer.zero_grad()\n    loss.back"),
    ),
    "R5": changed((CLIP, ""), ("optimizer.step()\n", "optimizer.step()\n" + CLIP)),
    "R5z": changed(
        (CLIP, ""),
        ("optimizer.zero_grad()\n", ""),
        ("optimizer.step()\n", "optimizer.step()\n" + CLIP + "optimizer.zero_grad()\n"),
    ),
    "R5n": changed((CLIP, "")),
    "R5a": changed(
        (
            CLIP,
            """\
length = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
for p in model.parameters():
    p.grad *= max_norm / length
""",
        )
    ),
    "R6": changed((CLIP, ""), ("total = 0.0\n", "total = 0.0\n" + CLIP)),
    "R6b": changed((CLIP, ""), ("    loss.back", "    " + CLIP + "    loss.back")),
    "R7": changed(
        (
            CLIP,
            """\
for p in model.parameters():
    nn.utils.clip_grad_norm_(p, max_norm)
""",
        )
    ),
    "R7b": changed(
        (
            CLIP,
            """\
for p in model.parameters():
    if p.grad.norm() > max_norm:
        p.grad = p.grad / p.grad.norm() * max_norm
""",
        )
    ),
    "R7v": changed(("clip_grad_norm_", "clip_grad_value_")),
    "R7vb": changed(
        (
            CLIP,
            """\
for p in model.parameters():
    p.grad.clamp_(-max_norm, max_norm)
""",
        )
    ),
    "R8": changed((CLIP, ""), ("    total +=", "    " + CLIP + "    total +=")),
    "R8s": changed(
        ("optimizer.step()\n", ""),
        ("    total +=", "    optimizer.step()\n    total +="),
        (CLIP, ""),
    ),
    "R10": changed(
        (" / len(batches)", ""), ("return total", "return total / len(batches)")
    ),
    "R10b": changed(
        (" / len(batches)\n", "\n"), ("loss.item()", "loss.item() / len(batches)")
    ),
    "R10t": changed(
        (CLIP, "for p in model.parameters():\n    p.grad /= len(batches)\n" + CLIP)
    ),
    "R11": changed((WRITE, "")),
    "R11b": changed(('    group["lr"] = lr', '    group = {**group, "lr": lr}')),
    "R11c": changed((WRITE, "optimizer.lr = lr\n")),
    "R11f": changed((WRITE, 'optimizer.param_groups[0]["lr"] = lr\n')),
    "R11l": changed((WRITE, ""), ("return", WRITE + "return")),
    "R16": "optimizer = torch.optim.SGD(model.parameters(), lr=lr)\n" + RIGHT_STEP,
    "R17": changed(("loss.item()", "loss")),
    "R17l": changed(("return total", "return loss.item() * len(batches)")),
    "R17s": changed(("return total", "return total * len(batches)")),
    "R17d": changed(("return total", "return loss.item()")),
    "R8w": changed(
        ("optimizer.zero_grad()\n", ""),
        (" / len(batches)", ""),
        ("    loss.back", "    optimizer.zero_grad()\n    loss.back"),
        (CLIP + "optimizer.step()\n", ""),
        ("    total +=", f"    {CLIP}    optimizer.step()\n    total +="),
        ("return total", "return total / len(batches)"),
    ),
    "R8n": changed(
        (" / len(batches)", ""),
        (CLIP + "optimizer.step()\n", ""),
        ("    total +=", f"    {CLIP}    optimizer.step()\n    total +="),
        ("return total", "return total / len(batches)"),
    ),
    "R8t": changed(("optimizer.step()", "optimizer.step()\noptimizer.step()")),
    "R5m": changed(("max_norm)", "1.0)")),
    "R5s": changed(("max_norm)", "max_norm / len(batches))")),
    "R7o": changed(("model.parameters(), max", "list(model.parameters())[:1], max")),
    "R7a": changed(("max_norm)", "max_norm, norm_type=1)")),
    "R7i": changed(("max_norm)", "max_norm, norm_type=math.inf)")),
    "R10n": changed(("= lr\n", "= lr / len(batches)\n")),
    "R10e": changed(
        ("/ len(batches)", "/ len(batch)"),
        ("return total", "return total * len(batch) / len(batches)"),
    ),
    "R2f": "batches = batches[:1]\n" + RIGHT_STEP,
    "R3e": "model.eval()\n" + RIGHT_STEP,
    "R17a": changed(
        (
            "return total",
            "return sum(loss_of(model(b), b).item() for b in batches) / len(batches)",
        )
    ),
}


def zero_after(model, optimizer, loss_of, batches, max_norm, lr):
    total = 0.0
    for batch in batches:
        loss = loss_of(model(batch), batch)
        (loss / len(batches)).backward()
        total += loss.detach()
    nn.utils.clip_grad_norm_(list(model.parameters()), max_norm)
    for group in optimizer.param_groups:
        group.update(lr=lr)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total / len(batches)


def keep_zeros(model, optimizer, loss_of, batches, max_norm, lr):
    model.train()
    optimizer.zero_grad(set_to_none=False)
    losses = [loss_of(model(batch), batch) for batch in batches]
    mean = torch.stack(losses).mean()
    mean.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    return mean.item()


def clipped_by_hand(model, optimizer, loss_of, batches, max_norm, lr):
    for group in optimizer.param_groups:
        group["lr"] = lr
    for p in model.parameters():
        p.grad = None
    losses = []
    for batch in batches:
        loss = loss_of(model(batch), batch)
        loss.backward()
        losses.append(loss.item())
    length = 0.0
    for p in model.parameters():
        p.grad /= len(batches)
        length += p.grad.square().sum().item()
    for p in model.parameters():
        p.grad *= min(1.0, max_norm / (math.sqrt(length) + 1e-12))
    optimizer.step()
    return float(np.mean(losses))


def by_autograd(model, optimizer, loss_of, batches, max_norm, lr):
    parameters = list(model.parameters())
    total, sums = 0.0, [torch.zeros_like(p) for p in parameters]
    for batch in batches:
        loss = loss_of(model(batch), batch)
        for kept, grad in zip(sums, torch.autograd.grad(loss, parameters), strict=True):
            kept += grad / len(batches)
        total += float(loss)
    for p, grad in zip(parameters, sums, strict=True):
        p.grad = grad
    nn.utils.clip_grad_norm_(parameters, max_norm, foreach=False)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    return total / len(batches)


def model_zero_grad(model, optimizer, loss_of, batches, max_norm, lr):
    model.zero_grad()
    total = 0.0
    for i, batch in enumerate(batches):
        loss = loss_of(model(batch), batch) / len(batches)
        loss.backward()
        total += loss.item()
        if i == len(batches) - 1:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=max_norm)
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad()
    return total


def with_closure(model, optimizer, loss_of, batches, max_norm, lr):
    for group in optimizer.param_groups:
        group["lr"] = lr

    def closure():
        optimizer.zero_grad()
        loss = sum(loss_of(model(batch), batch) for batch in batches) / len(batches)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        return loss

    return optimizer.step(closure).item()


def one_big_batch(model, optimizer, loss_of, batches, max_norm, lr):
    batch = torch.cat(batches)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad()
    loss = loss_of(model(batch), batch)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return loss.item()


def from_the_lesson(model, optimizer, loss_of, batches, max_norm, lr):
    model.train()
    optimizer.zero_grad()
    total = 0.0
    for group in optimizer.param_groups:
        group["lr"] = lr
    for input_ids in batches:
        loss = loss_of(model(input_ids), input_ids) / len(batches)
        loss.backward()
        total += loss.item()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(parameters, max_norm, error_if_nonfinite=True)
    optimizer.step()
    return total


HONEST_STEP = [
    zero_after,
    keep_zeros,
    clipped_by_hand,
    by_autograd,
    model_zero_grad,
    with_closure,
    one_big_batch,
    from_the_lesson,
]

# --- a whole training -----------------------------------------------------------------

RIGHT_FIT = """\
optimizer = make_optimizer(model)
losses, val_losses = [], []
for step, batch in enumerate(batches):
    model.train()
    optimizer.zero_grad()
    loss = loss_of(model(batch), batch)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    if (step + 1) % every == 0:
        model.eval()
        with torch.no_grad():
            val_losses.append(loss_of(model(val_batch), val_batch).item())
return losses, val_losses"""
MEASURE = RIGHT_FIT[RIGHT_FIT.index("    if (step") : RIGHT_FIT.index("return")]


def refit(*pairs):
    return changed(*pairs, source=RIGHT_FIT)


FIT = {
    "R1": refit(("    optimizer.zero_grad()\n", "")),
    "R2": refit(
        ("    optimizer.zero_grad()\n", ""),
        ("    optimizer.step()", "    optimizer.zero_grad()\n    optimizer.step()"),
    ),
    "R3": refit(("    model.train()\n", ""), ("for step", "model.train()\nfor step")),
    "R3n": refit(
        ("    model.train()\n", ""),
        (
            "        model.eval()\n",
            """\
        was = model.training
        model.eval()
""",
        ),
        ("return", "        model.train(was)\nreturn"),
    ),
    "R4": refit(("        model.eval()\n", "")),
    "R4h": refit(("model(val_batch), val_batch", "model(batch), batch")),
    "R4o": refit(("(step + 1) % every", "step % every")),
    "R4b": refit(
        (MEASURE, ""), ("    model.train()\n", MEASURE + "    model.train()\n")
    ),
    "R4c": refit(
        (MEASURE, ""),
        (
            "    model.train()\n",
            MEASURE.replace("(step + 1)", "step") + "    model.train()\n",
        ),
    ),
    "R16": refit(
        ("optimizer = make_optimizer(model)\n", ""),
        (
            "    optimizer.zero",
            "    optimizer = make_optimizer(model)\n    optimizer.zero",
        ),
    ),
    "R17": refit(("losses.append(loss.item())", "losses.append(loss)")),
}


def fit_modes_once(model, make_optimizer, loss_of, batches, val_batch, every):
    optimizer, losses, others = make_optimizer(model), [], []
    model.train()
    for i in range(len(batches)):
        loss = loss_of(model(batches[i]), batches[i])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses += [float(loss)]
        if i % every == every - 1:
            model.train(False)
            with torch.inference_mode():
                others += [float(loss_of(model(val_batch), val_batch))]
            model.train()
    return losses, others


def fit_tensors(model, make_optimizer, loss_of, batches, val_batch, every):
    model.train()
    optimizer, losses, others = make_optimizer(model), [], []
    for step, batch in enumerate(batches, 1):
        loss = loss_of(model(batch), batch)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if not step % every:
            model.eval()
            others.append(loss_of(model(val_batch), val_batch).detach())
            model.train()
    return losses, others


def fit_helpers(model, make_optimizer, loss_of, batches, val_batch, every):
    @torch.no_grad()
    def measure():
        model.eval()
        loss = loss_of(model(val_batch), val_batch)
        model.train()
        return loss.item()

    def one(batch):
        model.zero_grad()
        loss = loss_of(model(batch), batch)
        loss.backward()
        optimizer.step()
        return loss.item()

    model.train()
    optimizer = make_optimizer(model)
    losses, others = [], []
    for batch in batches:
        losses.append(one(batch))
        if len(losses) % every == 0:
            others.append(measure())
    return losses, others


def fit_by_copy(model, make_optimizer, loss_of, batches, val_batch, every):
    import copy

    optimizer, losses, others = make_optimizer(model.train()), [], []
    for step, batch in enumerate(batches):
        for p in model.parameters():
            p.grad = None
        loss = loss_of(model(batch), batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % every == every - 1:
            frozen = copy.deepcopy(model).eval()
            with torch.no_grad():
                others.append(loss_of(frozen(val_batch), val_batch).item())
    return losses, others


def fit_in_rounds(model, make_optimizer, loss_of, batches, val_batch, every):
    optimizer, losses, others = make_optimizer(model), [], []
    for begin in range(0, len(batches), every):
        model.train()
        some = batches[begin : begin + every]
        for batch in some:
            optimizer.zero_grad()
            loss = loss_of(model(batch), batch)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        if len(some) == every:
            model.eval()
            with torch.no_grad():
                others.append(loss_of(model(val_batch), val_batch).item())
    model.train()
    return losses, others


def fit_by_while(model, make_optimizer, loss_of, batches, val_batch, every):
    optimizer = make_optimizer(model)
    losses, others, step = [], [], 0
    while step < len(batches):
        model.train()
        batch = batches[step]
        loss = loss_of(model(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        step += 1
        if step % every == 0:
            model.eval()
            with torch.no_grad():
                others.append(loss_of(model(val_batch), val_batch).item())
            model.train()
    return losses, others


def fit_evaluating(model, make_optimizer, loss_of, batches, val_batch, every):
    from gpt2_lesson.generation import evaluating

    model.train()
    optimizer, losses, others = make_optimizer(model), [], []
    for step, batch in enumerate(batches, start=1):
        optimizer.zero_grad()
        loss = loss_of(model(batch), batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % every == 0:
            with evaluating(model):
                others.append(loss_of(model(val_batch), val_batch).item())
    return losses, others


def fit_as_dict(model, make_optimizer, loss_of, batches, val_batch, every):
    optimizer, log = make_optimizer(model), {"losses": [], "validation": []}
    for step, batch in enumerate(batches, start=1):
        model.train()

        def closure(batch=batch):
            optimizer.zero_grad()
            loss = loss_of(model(batch), batch)
            loss.backward()
            return loss

        log["losses"].append(optimizer.step(closure).item())
        if step % every == 0:
            model.eval()
            with torch.no_grad():
                log["validation"].append(loss_of(model(val_batch), val_batch).item())
    return tuple(log.values())


HONEST_FIT = [
    fit_modes_once,
    fit_tensors,
    fit_helpers,
    fit_by_copy,
    fit_in_rounds,
    fit_by_while,
    fit_evaluating,
    fit_as_dict,
]

# --- the learning rate ----------------------------------------------------------------

RIGHT_RATE = """\
if step < warmup_steps:
    return max_lr * (step + 1) / warmup_steps
done = min(1.0, (step - warmup_steps) / (steps - warmup_steps))
return min_lr + (max_lr - min_lr) * (1 + math.cos(math.pi * done)) / 2"""


def rerate(*pairs):
    return changed(*pairs, source=RIGHT_RATE)


RATE = {
    "R12": rerate(("(step + 1) /", "step /")),
    "R12o": rerate(("/ warmup_steps\n", "/ (warmup_steps + 1)\n")),
    "R12n": RIGHT_RATE[RIGHT_RATE.index("done") :].replace(
        "min(1.0, (step", "min(1.0, max(0, step"
    ),
    "R13": rerate(
        (
            "min(1.0, (step - warmup_steps) / (steps - warmup_steps))",
            "(step - warmup_steps) / (steps - warmup_steps)",
        )
    ),
    "R13s": rerate(("(step - warmup_steps) / (steps - warmup_steps)", "step / steps")),
    "R13d": rerate(("/ (steps - warmup_steps)", "/ steps")),
    "R13m": rerate(("min_lr + (max_lr - min_lr)", "max_lr")),
    "R13a": rerate(("(max_lr - min_lr)", "max_lr")),
    "R13h": rerate((" / 2", "")),
    "R13l": rerate(("(1 + math.cos(math.pi * done)) / 2", "(1 - done)")),
    "R13p": rerate(("math.pi * done", "2 * math.pi * done")),
    "R13q": rerate(("math.pi * done", "math.pi / 2 * done")),
    "R13f": "return max_lr * min(1, (step + 1) / max(1, warmup_steps))",
    "R12m": rerate(("max_lr * (step + 1)", "min_lr + (max_lr - min_lr) * (step + 1)")),
    "R12i": rerate(("(step + 1) / warmup_steps", "((step + 1) // warmup_steps)")),
    "R13z": rerate(("done =", "if step >= steps:\n    return 0.0\ndone =")),
    "R13x": rerate(
        (
            "min_lr + (max_lr - min_lr) * (1 + math.cos(math.pi * done)) / 2",
            "max(min_lr, max_lr * (1 + math.cos(math.pi * done)) / 2)",
        )
    ),
    "R13e": rerate(("(steps - warmup_steps)", "(steps - 1 - warmup_steps)")),
    "R13b": rerate(("(step - warmup_steps)", "step")),
    "R13i": rerate(("cos", "sin")),
    "R13r": rerate(("1 + math", "1 - math")),
    "R13c": rerate(("(1 + math.cos(math.pi * done)) / 2", "math.cos(math.pi * done)")),
}


def rate_by_branches(step, steps, max_lr, warmup_steps, min_lr):
    if step >= steps:
        return min_lr
    if step < warmup_steps:
        return (step + 1) / warmup_steps * max_lr
    angle = math.pi * (step - warmup_steps) / (steps - warmup_steps)
    return 0.5 * (max_lr + min_lr) + 0.5 * (max_lr - min_lr) * math.cos(angle)


def rate_by_numpy(step, steps, max_lr, warmup_steps, min_lr):
    if step < warmup_steps:
        return np.linspace(0, max_lr, warmup_steps + 1)[step + 1]
    done = np.clip((step - warmup_steps) / (steps - warmup_steps), 0, 1)
    return min_lr + (max_lr - min_lr) * np.cos(np.pi * done / 2) ** 2


def rate_by_torch(step, steps, max_lr, warmup_steps, min_lr):
    step = torch.tensor(float(step))
    up = (step + 1) / max(warmup_steps, 1)
    done = ((step - warmup_steps) / (steps - warmup_steps)).clamp(0, 1)
    down = min_lr + (max_lr - min_lr) * (1 + torch.cos(torch.pi * done)) / 2
    return torch.where(step < warmup_steps, max_lr * up, down)


def rate_by_lerp(step, steps, max_lr, warmup_steps, min_lr):
    if warmup_steps and step + 1 <= warmup_steps:
        return max_lr / warmup_steps * (step + 1)
    share = (
        1
        - math.cos(
            math.pi
            * min(step - warmup_steps, steps - warmup_steps)
            / (steps - warmup_steps)
        )
    ) / 2
    return (1 - share) * max_lr + share * min_lr


def rate_by_sine(step, steps, max_lr, warmup_steps, min_lr):
    if step < warmup_steps:
        return max_lr * (step + 1) / warmup_steps
    left = max(0, steps - step) / (steps - warmup_steps)
    return min_lr + (max_lr - min_lr) * math.sin(math.pi / 2 * left) ** 2


def rate_by_pytorch(step, steps, max_lr, warmup_steps, min_lr):
    if step < warmup_steps:
        return max_lr * (step + 1) / warmup_steps
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=max_lr)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, steps - warmup_steps, eta_min=min_lr
    )
    for _ in range(min(step, steps) - warmup_steps):
        optimizer.step()
        falling.step()
    return optimizer.param_groups[0]["lr"]


def rate_in_one(step, steps, max_lr, warmup_steps, min_lr):
    return (
        max_lr * (step + 1) / warmup_steps
        if step < warmup_steps
        else min_lr
        if step > steps
        else min_lr
        + 0.5
        * (max_lr - min_lr)
        * (1 + math.cos((step - warmup_steps) / (steps - warmup_steps) * math.pi))
    )


HONEST_RATE = [
    training.learning_rate,
    rate_by_branches,
    rate_by_numpy,
    rate_by_torch,
    rate_by_lerp,
    rate_by_sine,
    rate_by_pytorch,
    rate_in_one,
]

# --- groups ---------------------------------------------------------------------------

TWO = """
return [{"params": yes, "weight_decay": weight_decay},
        {"params": no, "weight_decay": 0.0}]"""
BY_NAME = (
    """\
yes = [p for n, p in model.named_parameters() if {TEST}]
no = [p for n, p in model.named_parameters() if not ({TEST})]"""
    + TWO
)


def by(test):
    return BY_NAME.replace("{TEST}", test)


GROUPS = {
    "R14": 'return [{"params": model.parameters(), "weight_decay": weight_decay}]',
    "R14b": by('"bias" not in n'),
    "R14n": by('"ln" not in n and n.split(".")[-2] != "0"'),
    "R14e": by('p.dim() >= 2 and "emb" not in n'),
    "R14i": by("p.dim() < 2"),
    "R14z": by("False"),
    "R14l": """return [{"params": [p for p in model.parameters() if p.dim() > 1],
    "weight_decay": weight_decay}]""",
    "R14s": """yes = [p for p in model.parameters() if p.dim() > 1]
no = [p for p in model.parameters() if p.dim() < 2]
return [{"params": yes, "weight_decay": weight_decay}, {"params": no}]""",
    "R14d": """yes, no = [], []
for module in model.modules():
    for p in module.parameters(recurse=False):
        (yes if p.dim() >= 2 else no).append(p)"""
    + TWO,
}


def group_each(model, weight_decay):
    return [
        {"params": [p], "weight_decay": weight_decay if p.ndim >= 2 else 0}
        for p in model.parameters()
    ]


def group_generators(model, weight_decay):
    return [
        {"params": (p for p in model.parameters() if p.dim() < 2), "weight_decay": 0.0},
        {
            "params": filter(lambda p: p.dim() > 1, model.parameters()),
            "weight_decay": weight_decay,
        },
    ]


def group_optimizer(model, weight_decay):
    return training.make_optimizer(model, 1e-3, weight_decay)


def group_names(model, weight_decay):
    named = list(model.named_parameters())
    return (
        {
            "params": [(n, p) for n, p in named if len(p.shape) >= 2],
            "lr": 1e-3,
            "weight_decay": weight_decay,
        },
        {
            "params": [(n, p) for n, p in named if len(p.shape) < 2],
            "lr": 1e-3,
            "weight_decay": 0,
        },
    )


def group_dict(model, weight_decay):
    kinds = {True: [], False: []}
    for p in model.parameters():
        kinds[p.dim() >= 2].append(p)
    return [{"params": kinds[key], "weight_decay": weight_decay * key} for key in kinds]


def group_sets(model, weight_decay):
    every = set(model.parameters())
    matrices = {p for p in every if p.dim() != 1}
    return [
        dict(params=list(matrices), weight_decay=weight_decay),
        dict(params=list(every - matrices), weight_decay=0.0),
    ]


def group_modules(model, weight_decay):
    seen, yes, no = set(), [], []
    for module in model.modules():
        for p in module.parameters(recurse=False):
            if id(p) not in seen:
                seen.add(id(p))
                plain = isinstance(module, nn.Linear | nn.Embedding) and p.dim() == 2
                (yes if plain else no).append(p)
    return [
        {"params": yes, "weight_decay": weight_decay},
        {"params": no, "weight_decay": 0.0},
    ]


def group_bias_and_norm(model, weight_decay):
    no = [
        p
        for n, p in model.named_parameters()
        if n.endswith("bias") or p.squeeze().dim() < 2
    ]
    ids = set(map(id, no))
    return [
        {
            "params": [p for p in model.parameters() if id(p) not in ids],
            "weight_decay": weight_decay,
        },
        {"params": no, "weight_decay": 0.0},
    ]


HONEST_GROUPS = [
    group_each,
    group_generators,
    group_optimizer,
    group_names,
    group_dict,
    group_sets,
    group_modules,
    group_bias_and_norm,
]

# --- AdamW ----------------------------------------------------------------------------

RIGHT_ADAMW = """\
mean = 0.9 * mean + 0.1 * gradient
square = 0.95 * square + 0.05 * gradient**2
fair_mean = mean / (1 - 0.9**step)
fair_square = square / (1 - 0.95**step)
weight = weight * (1 - lr * weight_decay)
return weight - lr * fair_mean / (fair_square.sqrt() + 1e-8), mean, square"""


def readam(*pairs):
    return changed(*pairs, source=RIGHT_ADAMW)


ADAMW = {
    "R15": readam(
        (
            "mean = 0.9 * mean",
            "gradient = gradient + weight_decay * weight\nmean = 0.9 * mean",
        ),
        ("weight = weight * (1 - lr * weight_decay)\n", ""),
    ),
    "R15n": readam(("weight = weight * (1 - lr * weight_decay)\n", "")),
    "R15r": readam(("lr * weight_decay", "weight_decay")),
    "R15a": readam(
        ("weight = weight * (1 - lr * weight_decay)\n", ""),
        (
            "return weight - lr * fair_mean / (fair_square.sqrt() + 1e-8)",
            "weight = weight - lr * fair_mean / (fair_square.sqrt() + 1e-8)\n"
            "return weight - lr * weight_decay * weight",
        ),
    ),
    "R15c": readam((" / (1 - 0.9**step)", ""), (" / (1 - 0.95**step)", "")),
    "R15f": readam(("0.9**step", "0.9"), ("0.95**step", "0.95")),
    "R15o": readam(
        ("0.9**step", "0.9**(step + 1)"), ("0.95**step", "0.95**(step + 1)")
    ),
    "R15b": """\
b1, b2 = 0.95, 0.9
mean = b1 * mean + (1 - b1) * gradient
square = b2 * square + (1 - b2) * gradient ** 2
weight = weight - lr * weight_decay * weight
step_size = mean / (1 - b1 ** step) / ((square / (1 - b2 ** step)) ** 0.5 + 1e-8)
return weight - lr * step_size, mean, square""",
    "R15w": """\
b1, b2 = 0.9, 0.999
mean = b1 * mean + (1 - b1) * gradient
square = b2 * square + (1 - b2) * gradient ** 2
weight = weight - lr * weight_decay * weight
step_size = mean / (1 - b1 ** step) / ((square / (1 - b2 ** step)) ** 0.5 + 1e-8)
return weight - lr * step_size, mean, square""",
    "R15e": readam(("(fair_square.sqrt() + 1e-8)", "torch.sqrt(fair_square + 1e-8)")),
    "R15x": readam(("(fair_square.sqrt() + 1e-8)", "fair_square.sqrt()")),
    "R15q": readam(("fair_square.sqrt()", "fair_square")),
    "R15s": readam(("weight - lr", "weight + lr")),
    "R15k": readam(("mean, square", "fair_mean, fair_square")),
    "R15g": readam(("fair_mean /", "gradient /")),
    "R15z": readam(
        ("0.9**step", "0.9**(step - 1)"), ("0.95**step", "0.95**(step - 1)")
    ),
    "R15h": readam(("0.9 * mean + 0.1 *", "0.1 * mean + 0.9 *")),
    "R15j": readam(
        ("0.9 * mean + 0.1 *", "0.1 * mean + 0.9 *"),
        ("0.95 * square + 0.05 *", "0.05 * square + 0.95 *"),
    ),
    "R15i": readam(("0.1 * gradient", "gradient")),
    "R15l": readam(("0.1 * gradient", "gradient"), ("0.05 * gradient", "gradient")),
    "R15t": readam(("gradient**2", "gradient")),
    "R15u": readam(("gradient**2", "gradient.abs()")),
    "R15v": readam((" / (1 - 0.95**step)", "")),
    "R15y": readam((" / (1 - 0.9**step)", "")),
    "R15m": readam(
        ("/ (1 - 0.9**step)", "* (1 - 0.9**step)"),
        ("/ (1 - 0.95**step)", "* (1 - 0.95**step)"),
    ),
    "R15p": readam(("1e-8", "1e-5")),
    "R15d": readam(
        (
            "(fair_square.sqrt() + 1e-8)",
            "((square.sqrt() + 1e-8) / (1 - 0.95**step) ** 0.5)",
        )
    ),
    "R15ra": readam(("lr * fair_mean", "fair_mean")),
    "R15ka": readam((", mean, square", ", square, mean")),
}


@pytest.mark.parametrize("number", [np.float32, np.float64, torch.tensor])
def test_numbers_of_every_kind_are_numbers(number) -> None:
    def rate(*args):
        return number(training.learning_rate(*args))

    assert checks.learning_rate(rate).passed


def test_a_result_of_another_form_is_told_in_the_words_of_the_task() -> None:
    text = str(checks.adamw_step(lambda weight, *rest: weight))
    assert "it returns not the three results (weight, mean, square), but one\n" in text
    text = str(checks.get_pairs(lambda tokens, b, t, g: (tokens[:b], tokens[:b])))
    assert "not a pair of (batch_size, seq_length)" in text


def adamw_by_pytorch(weight, gradient, mean, square, step, lr, weight_decay):
    parameter = nn.Parameter(weight.clone())
    parameter.grad = gradient.clone()
    optimizer = torch.optim.AdamW(
        [parameter], lr=lr, betas=(0.9, 0.95), weight_decay=weight_decay
    )
    optimizer.state[parameter] = {
        "step": torch.tensor(float(step - 1)),
        "exp_avg": mean.clone(),
        "exp_avg_sq": square.clone(),
    }
    optimizer.step()
    state = optimizer.state[parameter]
    return parameter.detach(), state["exp_avg"], state["exp_avg_sq"]


def adamw_in_place(weight, gradient, mean, square, step, lr, weight_decay):
    weight, mean, square = weight.clone(), mean.clone(), square.clone()
    mean.mul_(0.9).add_(gradient, alpha=0.1)
    square.mul_(0.95).addcmul_(gradient, gradient, value=0.05)
    weight.mul_(1 - lr * weight_decay)
    below = (square / (1 - 0.95**step)).sqrt_().add_(1e-8)
    weight.addcdiv_(mean, below, value=-lr / (1 - 0.9**step))
    return weight, mean, square


def adamw_lerp(weight, gradient, mean, square, step, lr, weight_decay):
    mean = torch.lerp(mean, gradient, 0.1)
    square = torch.lerp(square, gradient.square(), 0.05)
    move = (mean / (1 - 0.9**step)) / ((square / (1 - 0.95**step)) ** 0.5 + 1e-8)
    return weight - lr * (move + weight_decay * weight), mean, square


def adamw_numbers(weight, gradient, mean, square, step, lr, weight_decay):
    found = [[], [], []]
    for w, g, m, s in zip(
        *(part.flatten().tolist() for part in (weight, gradient, mean, square)),
        strict=True,
    ):
        m, s = m + 0.1 * (g - m), s + 0.05 * (g * g - s)
        up, below = m / (1 - 0.9**step), math.sqrt(s / (1 - 0.95**step)) + 1e-8
        w = w - lr * weight_decay * w - lr * up / below
        for part, value in zip(found, (w, m, s), strict=True):
            part.append(value)
    return tuple(torch.tensor(part).view_as(weight) for part in found)


def adamw_double(weight, gradient, mean, square, step, lr, weight_decay):
    w, g, m, s = (part.double() for part in (weight, gradient, mean, square))
    m, s = 0.9 * m + 0.1 * g, 0.95 * s + 0.05 * g.pow(2)
    w = w - lr * weight_decay * w
    w = w - lr * (m / (1 - 0.9**step)) / (torch.sqrt(s / (1 - 0.95**step)) + 1e-8)
    return w.float(), m.float(), s.float()


def adamw_one_factor(weight, gradient, mean, square, step, lr, weight_decay):
    mean = mean - (1 - 0.9) * (mean - gradient)
    square = square - (1 - 0.95) * (square - gradient * gradient)
    rate = lr * math.sqrt(1 - 0.95**step) / (1 - 0.9**step)
    tiny = 1e-8 * math.sqrt(1 - 0.95**step)
    return (
        (weight - lr * weight_decay * weight - rate * mean / (square.sqrt() + tiny)),
        mean,
        square,
    )


def adamw_list(*args):
    return list(adamw_lerp(*args))


def adamw_settings(weight, gradient, mean, square, step, lr, weight_decay):
    beta1, beta2, eps = 0.9, 0.95, 1e-8
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * gradient**2
    m_hat, v_hat = mean / (1 - beta1**step), square / (1 - beta2**step)
    move = m_hat / (torch.sqrt(v_hat) + eps)
    return weight - lr * move - lr * weight_decay * weight, mean, square


HONEST_ADAMW = [
    adamw_by_pytorch,
    adamw_in_place,
    adamw_lerp,
    adamw_numbers,
    adamw_double,
    adamw_one_factor,
    adamw_list,
    adamw_settings,
]

# --- pairs ----------------------------------------------------------------------------

RIGHT_PAIRS = """\
first = torch.randint(len(tokens) - seq_length, (batch_size,), generator=generator)
x = torch.stack([tokens[i:i + seq_length] for i in first])
y = torch.stack([tokens[i + 1:i + 1 + seq_length] for i in first])
return x, y"""


def repair(*pairs):
    return changed(*pairs, source=RIGHT_PAIRS)


PAIRS = {
    "R18": repair(("tokens[i + 1:i + 1 + seq_length]", "tokens[i:i + seq_length]")),
    "R18t": repair(
        ("i + 1:i + 1", "i + 2:i + 2"),
        ("len(tokens) - seq_length", "len(tokens) - seq_length - 1"),
    ),
    "R18b": repair(
        (
            "len(tokens) - seq_length, (batch_size,), generator=generator)",
            "(len(tokens) - 1) // seq_length, (batch_size,), "
            "generator=generator) * seq_length",
        )
    ),
    "R18f": "x = tokens[:seq_length].repeat(batch_size, 1)\n"
    "return x, tokens[1:seq_length + 1].repeat(batch_size, 1)",
    "R18l": repair(("len(tokens) - seq_length", "len(tokens) - seq_length - 1")),
    "R18o": repair(
        ("(batch_size,)", "(1,)"),
        ("for i in first])\ny", "for i in first.expand(batch_size)])\ny"),
        ("for i in first])\nreturn", "for i in first.expand(batch_size)])\nreturn"),
    ),
    "R18g": repair((", generator=generator", "")),
    "R18s": """i = torch.randint(len(tokens) - seq_length, (batch_size, seq_length),
    generator=generator)
return tokens[i], tokens[i + 1]""",
}


def pairs_indexed(tokens, batch_size, seq_length, generator):
    last = len(tokens) - seq_length
    first = torch.randint(last, (batch_size, 1), generator=generator)
    window = tokens[first + torch.arange(seq_length + 1)]
    return window[:, :-1], window[:, 1:]


def pairs_unfold(tokens, batch_size, seq_length, generator):
    windows = tokens.unfold(0, seq_length + 1, 1)
    chosen = windows[torch.randint(len(windows), (batch_size,), generator=generator)]
    return chosen[:, :seq_length].long(), chosen[:, 1:].long()


def pairs_by_loop(tokens, batch_size, seq_length, generator):
    inputs, targets = [], []
    for _ in range(batch_size):
        i = torch.randint(0, len(tokens) - seq_length, (1,), generator=generator).item()
        inputs.append(tokens[i : i + seq_length])
        targets.append(tokens[i + 1 : i + seq_length + 1])
    return torch.stack(inputs), torch.stack(targets)


def pairs_by_rand(tokens, batch_size, seq_length, generator):
    shares = torch.rand(batch_size, generator=generator)
    first = (shares * (len(tokens) - seq_length)).long()
    places = first.unsqueeze(1) + torch.arange(seq_length).unsqueeze(0)
    return tokens[places], tokens[places + 1]


def pairs_lesson(tokens, batch_size, seq_length, generator):
    batch = training.get_batch(tokens, batch_size, seq_length + 1, generator)
    return batch[:, :-1], batch[:, 1:]


def pairs_multinomial(tokens, batch_size, seq_length, generator):
    odds = torch.ones(len(tokens) - seq_length)
    first = torch.multinomial(odds, batch_size, replacement=True, generator=generator)
    return tuple(
        torch.stack([tokens[i + j : i + j + seq_length] for i in first.tolist()])
        for j in (0, 1)
    )


def pairs_gather(tokens, batch_size, seq_length, generator):
    first = torch.empty(batch_size, dtype=torch.long).random_(
        len(tokens) - seq_length, generator=generator
    )
    places = first.view(-1, 1).expand(-1, seq_length) + torch.arange(seq_length)
    return tokens.take(places), tokens.take(places + 1)


def pairs_narrow(tokens, batch_size, seq_length, generator):
    starts = torch.randint(
        0, tokens.numel() - seq_length, (batch_size,), generator=generator
    )
    rows = [tokens.narrow(0, int(i), seq_length + 1) for i in starts]
    return [torch.stack([row[a : a + seq_length] for row in rows]) for a in (0, 1)]


HONEST_PAIRS = [
    pairs_indexed,
    pairs_unfold,
    pairs_by_loop,
    pairs_by_rand,
    pairs_lesson,
    pairs_multinomial,
    pairs_gather,
    pairs_narrow,
]

CASES = {
    "next_token_loss": (LOSS, HONEST_LOSS),
    "train_step": (STEP, HONEST_STEP),
    "fit": (FIT, HONEST_FIT),
    "learning_rate": (RATE, HONEST_RATE),
    "optimizer_groups": (GROUPS, HONEST_GROUPS),
    "adamw_step": (ADAMW, HONEST_ADAMW),
    "get_pairs": (PAIRS, HONEST_PAIRS),
}


# More to change than in a call of cross_entropy or of clip_grad_norm_.
BY_HAND = {
    "next_token_loss": """\
def next_token_loss(logits, input_ids, ignore_index=-100):
    logits, targets = logits[:, :-1], input_ids[:, 1:]
    top = logits.amax(-1, keepdim=True)
    log_sums = (logits - top).exp().sum(-1).log() + top[..., 0]
    counts = targets != ignore_index
    chosen = logits.gather(-1, (targets * counts)[..., None])[..., 0]
    return ((log_sums - chosen) * counts).sum() / counts.sum()
""",
    "train_step": """\
def train_step(model, optimizer, loss_of, batches, max_norm, lr):
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad()
    total = 0.0
    for batch in batches:
        loss = loss_of(model(batch), batch) / len(batches)
        loss.backward()
        total += loss.item()
    square = 0.0
    for p in model.parameters():
        square += p.grad.square().sum().item()
    for p in model.parameters():
        p.grad *= min(1.0, max_norm / (math.sqrt(square) + 1e-6))
    optimizer.step()
    return total
""",
}


class TestCatalogue(Catalogue):
    cases = {
        name: (wrong, dict(enumerate(honest)))
        for name, (wrong, honest) in CASES.items()
    }
    sources = BY_HAND


def test_the_calls_of_a_step_are_shown_in_their_order(capsys) -> None:
    fakes.trace(from_the_lesson)
    assert capsys.readouterr().out.split() == [
        "zero_grad",
        "forward",
        "backward",
        "forward",
        "backward",
        "clip",
        "step",
    ]


def by_language_model(model, optimizer, loss_of, batches, max_norm, lr):
    training.next_token_loss(model(batches[0]), batches[0]).backward()


def swapped(model, optimizer, loss_of, batches, max_norm, lr):
    loss_of(batches[0], model(batches[0])).backward()


def test_a_step_with_another_loss_is_told_to_use_loss_of(capsys) -> None:
    assert "use the loss_of" in checks.train_step(by_language_model).symptoms[-1]
    assert "outputs first" in checks.train_step(swapped).symptoms[-1]
    fakes.trace(by_language_model)
    assert "its own loss_of" in capsys.readouterr().out


def test_a_wrong_step_shows_its_calls() -> None:
    form = function_of(checks.train_step, STEP["R2c"])
    report = checks.train_step(form)
    assert report.named == "zero_grad between backward and clip"
    assert (
        "backward, zero_grad, clip (no gradient yet), step; moves by 0,"
        in (report.table[1])
    )


def test_all_graphs_at_once_are_right_but_cost_memory() -> None:
    for step in (one_big_batch, keep_zeros, with_closure):
        assert "in memory at once" in checks.train_step(step).remarks[0]
    for step in (from_the_lesson, by_autograd, zero_after, model_zero_grad):
        assert not checks.train_step(step).remarks


def test_logits_of_a_wrong_layout_are_told_the_layout() -> None:
    report = checks.next_token_loss(
        lambda logits, ids, ignore_index: F.cross_entropy(logits[:, :-1], ids[:, 1:])
    )
    assert "flatten predictions to (N, V)" in report.symptoms[-1]


def test_two_lists_are_asked_for_and_may_come_in_a_list() -> None:
    report = checks.fit(
        function_of(checks.fit, refit(("return losses, val_losses", "return losses")))
    )
    assert report.symptoms[0].endswith("val_losses), but a list of 7")
    assert checks.fit(
        function_of(
            checks.fit,
            refit(("return losses, val_losses", "return [losses, val_losses]")),
        )
    ).passed


def test_predictions_of_logs_must_be_choices(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("GPT2_LESSON_PROGRESS", str(tmp_path / "progress.json"))
    logs = {
        "A": "nothing moves",
        "B": "right",
        "C": "last batch only",
        "D": "never clipped",
        "E": "steps too short",
        "F": "right",
    }
    assert checks.answer("08.1", logs).passed
    said = checks.answer("08.1", logs | {"C": "last batch"}).symptoms
    assert "'last batch' for C is none of the five choices" in said[0]
    said = checks.answer("08.1", logs | {"C": "right"}).symptoms
    assert said == ["right: A, B, D, E, F; not yet: C"]


@pytest.mark.parametrize(
    ("plain", "momentum", "said"),
    [
        (0.03, 0.076, "plain: 0.03 works, and so do larger ones"),
        (0.04, 0.1, "momentum 0.9: with 0.1 a weight ends farther from 0"),
        ([0.04], 0.076, "plain should be a number"),
        (0.076, 0.04, "this known mistake: the two learning rates exchanged"),
    ],
)
def test_rates_are_told_a_direction(plain, momentum, said: str) -> None:
    report = checks.answer("08.4", {"plain": plain, "momentum 0.9": momentum})
    assert not report.passed and said in str(report)


def test_the_calls_of_a_training_show_the_mode(capsys) -> None:
    fakes.trace_fit(function_of(checks.fit, FIT["R3"]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "zero_grad, forward, backward, step"
    assert lines[1] == f"{lines[0]}, forward (evaluation mode)"
    assert lines[2] == "zero_grad, forward (evaluation mode), backward, step"
    assert len(lines) == 5


def test_the_given_version_is_not_repaired_and_no_other_is_given() -> None:
    given = checks.fit_to_repair(function_of(checks.fit, FIT["R3"]))
    other = checks.fit_to_repair(function_of(checks.fit, FIT["R4"]))
    assert given.state == "not written" and other.named.startswith("evaluated in")
