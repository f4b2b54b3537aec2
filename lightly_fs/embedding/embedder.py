"""What an embedding model is to the rest: pixels in, vectors out, and a card that says which."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lightly_fs.types import ModelInfo

_COUNTERS = "num_batches_tracked"
"""Batch norm counts its training batches; inference never reads the count."""


class Embedder(Protocol):
    """Turns batches of decoded images into vectors.

    Attributes:
        info: Which model this is; embeddings of different models never mix.
        no_vector: Why a row that `embed` leaves not finite has no vector, for `Failure.reason`.
    """

    info: ModelInfo
    no_vector: str

    def embed(self, pixels: Tensor, filenames: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of a batch, not L2-normalised.

        A row depends on its own image alone: not on its neighbours, its place or the padding.

        Args:
            pixels: (B, S, S, 3) uint8 RGB on the CPU, S being `info.input_size`; rows beyond
                `filenames` are padding.
            filenames: At most B names; what is not finite in a row of theirs is a failure.

        Returns:
            (B, D) float32; rows of the padding mean nothing.
        """
        ...


@dataclass(frozen=True, eq=False)
class Network:
    """A model with its weights, before a runtime takes it.

    Attributes:
        name: As it is recorded: `bundled`, `timm/resnet18.a1_in1k`, `torchvision/resnet18`.
        build: Returns the module; called when somebody needs it, which a converted model does not.
        state: The module's parameters and buffers by name.
        input_size: S, pixels.
        mean: Subtracted from RGB in [0, 1].
        std: RGB in [0, 1] is divided by it after that.
    """

    name: str
    build: Callable[[], nn.Module]
    state: Mapping[str, Tensor]
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(
        cls,
        name: str,
        module: nn.Module,
        input_size: int,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> Network:
        """Return the network of a module that is built already."""
        return cls(name, lambda: module, module.state_dict(), input_size, mean, std)

    @cached_property
    def module(self) -> nn.Module:
        """Normalised images (B, 3, S, S) float32 to (B, D), in eval mode."""
        return self.build()

    @property
    def preprocessing(self) -> str:
        mean, std = (" ".join(f"{value:.4g}" for value in row) for row in (self.mean, self.std))
        side = self.input_size
        return f"squash {side}x{side} bilinear antialias; mean {mean}; std {std}"

    def weights_sha256(self) -> str:
        """Return a hash of the parameters, the same for the same weights from another file."""
        digest = hashlib.sha256()
        for name, value in sorted(self.state.items()):
            if not name.endswith(_COUNTERS):
                digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def info(self, *, dimensions: int, runtime: str, precision: str) -> ModelInfo:
        return ModelInfo(
            name=self.name,
            weights_sha256=self.weights_sha256(),
            input_size=self.input_size,
            dimensions=dimensions,
            preprocessing=self.preprocessing,
            runtime=runtime,
            precision=precision,
        )


class FromPixels(nn.Module):
    """A network that takes uint8 pixels: normalising happens where the model runs."""

    mean: Tensor
    scale: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        mean, std = torch.tensor(network.mean), torch.tensor(network.std)
        self.network = network.module
        self.register_buffer("mean", (mean * 255).view(1, 3, 1, 1))
        self.register_buffer("scale", (1 / (std * 255)).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 to (B, D)."""
        images = (pixels.permute(0, 3, 1, 2).float() - self.mean) * self.scale
        vectors: Tensor = self.network(images)
        return vectors
