"""The scripts are programs beside one another, found as Python finds them when one is started."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[3] / "scripts"))


@pytest.fixture(autouse=True)
def _one_thread():
    """On a busy machine two threads wait for each other at every step of these small sums."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
