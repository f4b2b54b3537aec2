"""State dicts of small detectors, made once."""

from pathlib import Path

import pytest
import torch

from tests.unit.pretagging.detectors import FASTER, NAMES, SSDLITE, made


@pytest.fixture(scope="package", autouse=True)
def _one_thread():
    """Small networks are no faster with more, where other work wants the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A shared directory with `ssdlite.pth` (COCO's classes) and `faster.pth` (three classes)."""
    folder = tmp_path_factory.mktemp("shared")
    torch.save(made(SSDLITE, 91).state_dict(), folder / "ssdlite.pth")
    torch.save(made(FASTER, 1 + len(NAMES)).state_dict(), folder / "faster.pth")
    return folder
