"""What the benchmarks of embeddings compare: the product's models, and baselines without one."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightly_fs.config.run import RunConfig
from lightly_fs.cpus import usable_cpus
from lightly_fs.decoding.raster import Pixels, resized
from lightly_fs.embedding import bundled
from lightly_fs.embedding.embedder import Embedder, Network
from lightly_fs.embedding.load import load_embedder, load_network
from lightly_fs.embedding.openvino_runtime import OpenVinoEmbedder
from lightly_fs.embedding.torch_runtime import TorchEmbedder

Vectors = NDArray[np.float32]

BATCH = 64
PIXELS_SIDE = 32
HOG_SIDE = 64
TIMED = 512
ENOUGH_S = 10.0


@dataclass(frozen=True, eq=False)
class Model:
    """Something that turns images into vectors.

    Attributes:
        name: As it was asked for.
        prepare: One image, (h, w, 3) uint8 of any size, to one row of a batch.
        embed: A batch of prepared rows to (B, D) float32.
        runtime: Runtime and precision.
        megabytes: Of the weights: their file's where one is given, else of the parameters.
        centred: Whether the mean vector of the bank is to be subtracted before comparing.
    """

    name: str
    prepare: Callable[[Pixels], NDArray[Any]]
    embed: Callable[[NDArray[Any]], Vectors]
    runtime: str
    megabytes: float = 0.0
    centred: bool = False


def open_model(name: str, file: Path | None = None, runtime: str = "auto") -> Model:
    """Return a baseline or a model of the product.

    Args:
        name: `pixels`, `colour-hog`, `random`, or whatever `model=` may be.
        file: Weights, instead of the model's own.
        runtime: As of a run; baselines have none.

    Raises:
        LightlyFSError: There is no such model, or its weights cannot be had.
    """
    if name in BASELINES:
        return BASELINES[name]()
    config = RunConfig.model_validate(
        {"model": name, "weights": str(file or ""), "runtime": runtime, "batch_size": BATCH}
    )
    if file is None and name == "bundled":
        file = bundled.BUNDLED_WEIGHTS
    parameters = load_network(config).state.values() if file is None else ()
    size = file.stat().st_size if file else sum(each.nbytes for each in parameters)
    return _of_embedder(name, load_embedder(config), size)


def _of_embedder(name: str, embedder: Embedder, weights_bytes: int) -> Model:
    side = embedder.info.input_size
    return Model(
        name,
        prepare=lambda pixels: resized(pixels, side, side),
        embed=lambda rows: embedder.embed(torch.from_numpy(rows), []),
        runtime=f"{embedder.info.runtime} {embedder.info.precision}",
        megabytes=weights_bytes / 1e6,
    )


def _random() -> Model:
    """The bundled network as it is initialised."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = bundled.BundledNet().eval()
    network = Network.of("random", module, bundled.INPUT_SIZE, mean=bundled.MEAN, std=bundled.STD)
    embedder: Embedder = (
        TorchEmbedder(network, torch.device("cpu"))
        if importlib.util.find_spec("openvino") is None
        else OpenVinoEmbedder(network, None)
    )
    return _of_embedder("random", embedder, bundled.BUNDLED_WEIGHTS.stat().st_size)


def _pixels() -> Model:
    return Model("pixels", raw_pixels, _as_they_are, "numpy", centred=True)


def raw_pixels(pixels: Pixels) -> Vectors:
    """(3072,) the image at 32x32, 0 to 1."""
    values = resized(pixels, PIXELS_SIDE, PIXELS_SIDE).reshape(-1).astype(np.float32)
    values *= np.float32(1 / 255)
    return values


def _colour_hog() -> Model:
    return Model("colour-hog", colour_hog, _as_they_are, "scikit-image")


def colour_hog(pixels: Pixels) -> Vectors:
    """(1828,) histogram of 4x4x4 colours and HOG at 64x64, of equal weight."""
    from skimage.feature import hog

    small = resized(pixels, HOG_SIDE, HOG_SIDE)
    bins = (small >> 6).astype(np.int64) @ np.array([16, 4, 1])
    # Roots: the product of two is the Bhattacharyya coefficient, and 1 is the length of each.
    colours = np.sqrt(np.bincount(bins.reshape(-1), minlength=64) / bins.size)
    shape = hog(small.mean(axis=2), pixels_per_cell=(8, 8), cells_per_block=(2, 2))
    length = float(np.linalg.norm(shape)) or 1.0
    features: Vectors = np.concatenate([colours, shape / length]).astype(np.float32)
    return features


def _as_they_are(rows: NDArray[Any]) -> Vectors:
    return rows


BASELINES: dict[str, Callable[[], Model]] = {
    "pixels": _pixels,
    "colour-hog": _colour_hog,
    "random": _random,
}


def embed_images(model: Model, images: Sequence[Pixels]) -> Vectors:
    """(N, D): threads prepare the next batch while one is embedded, as in a run."""
    starts = range(0, len(images), BATCH)
    with ThreadPoolExecutor(usable_cpus()) as pool:
        prepared: deque[Iterator[NDArray[Any]]] = deque()
        vectors: list[Vectors] = []
        for start in starts:
            prepared.append(pool.map(model.prepare, images[start : start + BATCH]))
            if len(prepared) > 1:
                vectors.append(model.embed(np.stack(list(prepared.popleft()))))
        vectors += [model.embed(np.stack(list(rows))) for rows in prepared]
    return np.concatenate(vectors)


def speed(model: Model, images: Sequence[Pixels], rounds: int = 3) -> tuple[float, float]:
    """Images/s (median) and milliseconds of CPU per image (least), with their preparation."""
    timed = list(islice(cycle(images), TIMED))
    embed_images(model, timed[: 2 * BATCH])
    began, rates, costs = time.perf_counter(), list[float](), list[float]()
    while len(rates) < rounds and (not rates or time.perf_counter() - began < ENOUGH_S):
        wall, cpu = time.perf_counter(), time.process_time()
        embed_images(model, timed)
        rates.append(len(timed) / (time.perf_counter() - wall))
        costs.append(1e3 * (time.process_time() - cpu) / len(timed))
    return statistics.median(rates), min(costs)
