"""The learning rate, the groups of parameters, the summary."""

import pytest
import torch
from torch import nn

from lightly_fs.config.training import OptimizerConfig
from lightly_fs.training.simclr import SimCLR, learning_rate, optimizer, summary
from tests.unit.embedding.networks import small_network


def test_the_rate_rises_to_its_peak_and_falls_to_nearly_zero():
    settings = OptimizerConfig(lr=2.0)
    rates = [learning_rate(settings, 64, step, 100) for step in range(100)]

    assert max(rates) == pytest.approx(2.0 * 64 / 256)
    assert rates.index(max(rates)) in (4, 5)
    assert rates[0] == pytest.approx(max(rates) / 5)
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert 0 < rates[-1] < 0.001


def test_a_single_step_has_a_rate():
    assert learning_rate(OptimizerConfig(), 256, 0, 1) == 1.0


def test_biases_and_norms_do_not_decay():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    decaying, others = optimizer(module, OptimizerConfig(weight_decay=0.1)).param_groups

    assert decaying["weight_decay"] == 0.1
    assert others["weight_decay"] == 0
    assert [p.ndim for p in decaying["params"]] == [4]
    assert len(others["params"]) == 3


def test_both_views_are_embedded_as_the_run_embeds_them():
    network = small_network()
    model = SimCLR(network.module, 32, mean=network.mean, std=network.std, out_dim=8).eval()
    views = torch.randint(0, 256, (3, 2, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        first, second = model(views)
        expected = model.projection_head(model.embed(views[:, 1]))

    assert first.shape == second.shape == (3, 8)
    assert torch.allclose(second, expected, atol=1e-6)


def test_the_summary_goes_as_deep_as_asked():
    module = nn.Sequential(nn.Sequential(nn.Linear(2, 3)), nn.ReLU())
    assert list(summary(module, 1)) == [
        "Sequential: 9 parameters",
        "  0: 9 parameters",
        "  1: 0 parameters",
    ]
    assert list(summary(module, -1))[2] == "    0.0: 9 parameters"
