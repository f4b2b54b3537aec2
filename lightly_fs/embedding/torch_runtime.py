"""Embedding with torch: bfloat16 on CUDA, float32 on the CPU (the reference)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightly_fs.embedding.embedder import FromPixels, Network
from lightly_fs.errors import ModelError


class TorchEmbedder:
    """A network on one torch device, in channels-last layout.

    On CUDA the weights stay float32 and autocast runs bfloat16 where that is safe. Cards that
    only emulate bfloat16 run float32. Not compiled: at batch 64 a small network is bound by
    decoding, and compiling costs a minute.
    """

    def __init__(self, network: Network, device: torch.device) -> None:
        self._device = device
        self._bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(
            including_emulation=False
        )
        module = FromPixels(network).eval()
        self._module = module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        side = network.input_size
        example = self._forward(torch.zeros(1, side, side, 3, dtype=torch.uint8))
        self.no_vector = f"{network.name} gave a vector that is not finite"
        self.info = network.info(
            dimensions=vector_length(network.name, example.shape),
            runtime=f"torch {device.type}",
            precision="bf16" if self._bf16 else "f32",
        )

    def embed(self, pixels: Tensor, filenames: Sequence[str]) -> NDArray[np.float32]:  # noqa: ARG002
        vectors: NDArray[np.float32] = self._forward(pixels).numpy()
        return vectors

    def _forward(self, pixels: Tensor) -> Tensor:
        try:
            with torch.inference_mode(), self._autocast():
                vectors: Tensor = self._module(pixels.to(self._device))
                return vectors.float().cpu()
        except torch.cuda.OutOfMemoryError as error:
            batch = len(pixels)
            raise ModelError(
                f"a batch of {batch} images does not fit into the memory of {self._device}",
                hint=f"batch_size={batch // 2}" if batch > 1 else "use device=cpu",
            ) from error

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast("cuda", torch.bfloat16) if self._bf16 else nullcontext()


def vector_length(name: str, shape: Sequence[int]) -> int:
    """Return D of an output (B, D); `ModelError` for a model that gives something else."""
    if len(shape) != 2 or shape[1] < 1:
        raise ModelError(
            f"{name} gives {tuple(shape)} for one image instead of one vector",
            hint="choose an image classification model, e.g. model=timm/resnet18",
        )
    return int(shape[1])
