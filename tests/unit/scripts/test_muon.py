"""The optimizer of scripts/train_bundled.py."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from muon import Muon, is_hidden_matrix, orthogonalised
from torch import nn


@pytest.mark.parametrize("shape", [(16, 16), (16, 144), (144, 16)])
def test_a_step_has_singular_values_near_one(shape: tuple[int, int]):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(matrix))
    assert 0.5 < values.min() <= values.max() < 1.3
    assert orthogonalised(matrix).shape == shape


def test_the_length_of_a_gradient_does_not_matter():
    matrix = torch.randn(8, 24, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(orthogonalised(matrix), orthogonalised(1024 * matrix), atol=0.05)


def test_it_fits_a_convolution_with_any_number_of_threads():
    def fitted(threads: int) -> tuple[float, torch.Tensor]:
        torch.manual_seed(0)
        images, wanted = torch.randn(8, 4, 6, 6), nn.Conv2d(4, 8, 3, padding=1, bias=False)
        conv = nn.Conv2d(4, 8, 3, padding=1, bias=False)
        with ThreadPoolExecutor(threads) as pool:
            optimizer = Muon([conv.weight], lr=0.02, weight_decay=0.0, each=pool.map)
            target = wanted(images).detach()
            for _ in range(60):
                loss = (conv(images) - target).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return loss.item() / float(target.square().mean()), conv.weight.detach()

    error, weight = fitted(1)
    assert error < 0.05
    assert torch.equal(weight, fitted(3)[1])


def test_it_is_for_the_hidden_matrices_only():
    net = nn.ModuleDict(
        {
            "stem": nn.Conv2d(3, 8, 3),
            "norm": nn.BatchNorm2d(8),
            "conv": nn.Conv2d(8, 16, 3, bias=False),
            "classifier": nn.Linear(16, 4),
        }
    )
    names = {name for name, value in net.named_parameters() if is_hidden_matrix(name, value)}
    assert names == {"conv.weight"}


def test_weight_decay_shrinks_what_has_no_gradient_direction():
    weight = nn.Parameter(torch.eye(4))
    optimizer = Muon([weight], lr=0.1, weight_decay=0.5)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert torch.allclose(weight, 0.95 * torch.eye(4))
