"""The device that a command uses."""

import torch

DEVICES = ("cuda", "mps", "cpu")  # the fastest first


def choose_device(name: str) -> str:
    """Return the device to use; "auto" is the fastest. Raises ValueError if missing."""
    here = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(device for device in DEVICES if here[device])
    if not here[name]:
        raise ValueError(
            f"this machine, or this PyTorch, has no {name} device: use "
            f"--device {choose_device('auto')}"
        )
    return name


def has_bf16(device: str) -> bool:
    """Return whether the device has bf16 arithmetic, which makes it fast."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and torch.cpu._is_avx512_bf16_supported()
