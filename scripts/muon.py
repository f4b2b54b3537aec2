"""Muon, for the matrices of a network; the rest of it is left to AdamW."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

_MOMENTUM = 0.9
_QUINTIC = (3.4445, -4.7750, 2.0315)


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon is for it: not for what sees the pixels, for classifiers, for vectors."""
    return parameter.ndim > 1 and parameter.shape[1] > 3 and "classifier" not in name


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values come out within 0.7 to 1.2.

    Newton-Schulz iteration with the quintic of Jordan et al. 2024 ("Muon: an optimizer for hidden
    layers in neural networks"), in bfloat16.
    """
    a, b, c = _QUINTIC
    wide = matrix.shape[0] <= matrix.shape[1]
    x: Tensor = (matrix if wide else matrix.T).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    result: Tensor = x if wide else x.T
    return result.to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose step is made orthogonal, with decoupled weight decay.

    A convolution's weight counts as the matrix (outputs, inputs x height x width). torch's own
    class refuses weights of more than two dimensions.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        each: Callable[[Callable[[Tensor], None], Sequence[Tensor]], object] = map,
    ) -> None:
        """Prepare.

        Args:
            parameters: Weights of two or more dimensions.
            lr: Spectral norm of a step.
            weight_decay: Share of a weight that a step of length 1 takes away.
            each: Calls a function for every parameter, in any order; a pool's `map` for many cores.
        """
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})
        self._each = each

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:

            def update(weight: Tensor, group: dict[str, float] = group) -> None:
                with torch.no_grad():  # a thread of a pool has a mode of its own
                    self._update(weight, group["lr"], group["weight_decay"])

            list(self._each(update, [p for p in group["params"] if p.grad is not None]))  # type: ignore[call-overload]

    def _update(self, weight: Tensor, lr: float, weight_decay: float) -> None:
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].mul_(_MOMENTUM).add_(weight.grad)
        direction = orthogonalised((weight.grad + _MOMENTUM * momentum).flatten(1))
        tall = max(1.0, direction.shape[0] / direction.shape[1]) ** 0.5
        weight.mul_(1 - lr * weight_decay).add_(direction.view_as(weight), alpha=-lr * tall)
