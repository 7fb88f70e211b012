"""The tests' surroundings: pictures without a window, nothing from the network."""

import os

import pytest
import torch

os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Let every test draw the same numbers, alone or among others."""
    torch.manual_seed(0)
