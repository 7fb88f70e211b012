"""Small layers with an adapter, and adapters for what a learner does with them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Values = dict[str, Tensor]


class Adapted(nn.Module):
    """A linear layer with an adapter, as the lesson's LoRALinear has it."""

    def __init__(self, values: Values, scale: float) -> None:
        super().__init__()
        self.linear, self.scale = linear(values), scale
        self.linear.requires_grad_(False)
        self.lora_a = nn.Parameter(values["a"].clone())
        self.lora_b = nn.Parameter(values["b"].clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output with the update added."""
        update = x @ self.lora_a.T @ self.lora_b.T
        return self.linear(x) + self.scale * update


def linear(values: Values) -> nn.Linear:
    """Return a linear layer with this weight (out, in) and bias (out,)."""
    out, size = values["weight"].shape
    layer = nn.Linear(size, out)
    with torch.no_grad():
        layer.weight.copy_(values["weight"])
        layer.bias.copy_(values["bias"])
    return layer


def at_start(make: Callable, values: Values, rank: int, alpha: float) -> Tensor:
    """Return what a new layer makes of x."""
    torch.manual_seed(0)
    return make(linear(values), rank, alpha)(values["x"]).detach()


def afterwards(make: Callable, values: Values, rank: int, alpha: float) -> Tensor:
    """Return what the layer makes of x when a and b have been trained."""
    layer = make(linear(values), rank, alpha)
    with torch.no_grad():
        layer.a.copy_(values["a"])
        layer.b.copy_(values["b"])
    return layer(values["x"]).detach()


def trained(make: Callable, values: Values, rank: int, alpha: float) -> dict[str, str]:
    """Return the shape of each of a layer's parameters, and whether it is trained."""
    layer = make(linear(values), rank, alpha)
    return {
        name: f"{tuple(parameter.shape)} "
        + ("trained" if parameter.requires_grad else "frozen")
        for name, parameter in layer.named_parameters()
    }


def first_gradients(
    make: Callable, values: Values, rank: int, alpha: float
) -> dict[str, str]:
    """Return to which of x, a and b the first backward pass brings a gradient."""
    torch.manual_seed(0)
    layer, x = make(linear(values), rank, alpha), values["x"].clone().requires_grad_()
    output = layer(x)
    if output.requires_grad:
        output.square().sum().backward()
    found = {"x": x, "a": layer.a, "b": layer.b}
    return {name: _kind(one.grad) for name, one in found.items()}


def _kind(gradient: Tensor | None) -> str:
    if gradient is None:
        return "none"
    return "not 0" if gradient.abs().max() > 0 else "0"


def later_gradients(
    make: Callable, values: Values, rank: int, alpha: float
) -> list[Tensor | None]:
    """Return the gradients of a and b when both have been trained."""
    layer = make(linear(values), rank, alpha)
    with torch.no_grad():
        layer.a.copy_(values["a"])
        layer.b.copy_(values["b"])
    layer(values["x"]).square().sum().backward()
    return [layer.a.grad, layer.b.grad]


def small_model(layers: list[tuple[Values, float | None]]) -> nn.Sequential:
    """Return layers in a row; one with a scale has an adapter."""
    return nn.Sequential(
        *(
            linear(values) if scale is None else Adapted(values, scale)
            for values, scale in layers
        )
    )


def merged(merge: Callable, layers: list, x: Tensor) -> Tensor:
    """Return what a model makes of x after merging."""
    model = small_model(layers)
    merge(model)
    return model(x).detach()


def merged_twice(merge: Callable, layers: list, x: Tensor) -> Tensor:
    """Return what a model makes of x after merging a second time."""
    model = small_model(layers)
    merge(model)
    merge(model)
    return model(x).detach()


def left_behind(merge: Callable, layers: list) -> dict[str, object]:
    """Return of what kind the layers are after merging, and what can be trained."""
    model = small_model(layers)
    merge(model)
    return {
        "layers": [type(layer).__name__ for layer in model],
        "parameters": sorted(name for name, _ in model.named_parameters()),
        "frozen": sorted(n for n, p in model.named_parameters() if not p.requires_grad),
    }
