"""Pretagging on a CUDA device; skipped by name where there is none."""

import numpy as np
import pytest
import torch

from lightly_fs.config.run import RunConfig
from lightly_fs.pretagging.config import PretaggingConfig
from lightly_fs.pretagging.detector import load_detector
from tests.unit.pretagging.detectors import SSDLITE, made, pixels

pytestmark = pytest.mark.gpu


def test_finds_what_the_cpu_finds(tmp_path):
    torch.save(made(SSDLITE, 91).state_dict(), tmp_path / "w.pth")
    settings = PretaggingConfig(model=SSDLITE, weights="w.pth", max_boxes=10)
    images, sizes = [pixels(seed) for seed in range(4)], [(320, 320)] * 4
    detectors = [
        load_detector(RunConfig(shared_dir=str(tmp_path), device=device), settings)
        for device in ("cpu", "cuda")
    ]
    assert detectors[0].digest != detectors[1].digest
    for one, other in zip(*(each.detect(images, sizes) for each in detectors), strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=0.02)
