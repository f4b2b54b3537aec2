"""Embedding with OpenVINO on the CPU: bfloat16 where the processor has it, else float32.

Converting a network takes seconds, so that the converted one is kept on disk; the bundled model's
is in the package.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightly_fs import __version__
from lightly_fs.cpus import usable_cpus
from lightly_fs.embedding.embedder import FromPixels, Network
from lightly_fs.embedding.torch_runtime import vector_length
from lightly_fs.errors import MissingExtraError, ModelError

CHUNK = 8
"""Images per request. Each stream of the throughput mode takes one: measured on two cores, chunks
of 8 in two streams need 25 % less CPU time per image than a batch of 64 on both cores at once."""

SHIPPED = Path(__file__).parent / "weights" / "openvino"
"""Converted networks of the package: the bundled one, made by `scripts/convert_bundled.py`."""

_LOWEST_COSINE = 0.95
_logger = logging.getLogger(__name__)


class OpenVinoEmbedder:
    """A network compiled for the CPU, embedding each batch as concurrent chunks of fixed shape.

    Attributes:
        streams: How many chunks are embedded at the same time.
    """

    def __init__(self, network: Network, cache: Path | None, *, cpus: int | None = None) -> None:
        """Convert the network, or find it converted, and compile it.

        Args:
            network: What to run.
            cache: Where converted networks are kept; None keeps none.
            cpus: On how many CPUs to run; None for all that this process may use.
        """
        openvino, core = import_openvino(), runtime()
        hint = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
        options = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "THROUGHPUT"}
        cpus = usable_cpus() if cpus is None else cpus
        # It sees the affinity, and chooses well within it, but knows nothing of quotas.
        if cpus < len(os.sched_getaffinity(0)):
            options["INFERENCE_NUM_THREADS"] = str(cpus)
        model = _cached(openvino, core, network, cache)
        compiled = core.compile_model(model, "CPU", options)
        self.streams = int(compiled.get_property("NUM_STREAMS"))
        self._tensor = openvino.Tensor
        self._requests = openvino.AsyncInferQueue(compiled)
        self._requests.set_callback(_store)
        self.no_vector = f"{network.name} gave a vector that is not finite"
        self.info = network.info(
            dimensions=vector_length(network.name, tuple(compiled.output(0).shape)),
            runtime="openvino cpu",
            # What it does, not what was asked: without the instructions the hint changes nothing.
            precision=compiled.get_property("INFERENCE_PRECISION_HINT").to_string(),
        )

    def embed(self, pixels: Tensor, filenames: Sequence[str]) -> NDArray[np.float32]:  # noqa: ARG002
        images = pixels.numpy()
        short = -len(images) % CHUNK
        if short:
            images = np.concatenate([images, np.zeros((short, *images.shape[1:]), np.uint8)])
        images = np.ascontiguousarray(images)
        vectors = np.empty((len(images), self.info.dimensions), np.float32)
        for start in range(0, len(images), CHUNK):
            chunk = self._tensor(images[start : start + CHUNK], shared_memory=True)
            self._requests.start_async([chunk], vectors[start : start + CHUNK])
        self._requests.wait_all()
        return vectors[: len(pixels)]


def _store(request: Any, rows: NDArray[np.float32]) -> None:  # noqa: ANN401 - openvino is untyped
    rows[:] = request.get_output_tensor(0).data


def import_openvino() -> ModuleType:
    """Return the openvino package, imported without its telemetry.

    Merely importing it reports to a web service. It does without where the reporting package is
    not installed, so that this one is hidden for the time of the import.
    """
    hidden = "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules
    if hidden:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise MissingExtraError(
            "runtime=openvino, but OpenVINO is not installed or does not load",
            hint="pip install 'lightly-fs[openvino]', or runtime=torch",
        ) from error
    finally:
        if hidden:
            del sys.modules["openvino_telemetry"]


@functools.cache
def runtime() -> Any:  # noqa: ANN401 - openvino is untyped
    """Return the OpenVINO runtime of this process, which is never closed.

    Opening it gives the calling thread a stack for signal handlers; closing it unmaps that stack,
    and from another thread without taking it away from the first: its next signal, the end of a
    child process say, would then end the process (seen with 2026.4).
    """
    return import_openvino().Core()


def ship(network: Network, directory: Path) -> Path:
    """Convert a network into `directory`, as `SHIPPED` holds it; return its entry.

    Weights are rounded to float16, which halves the file and is finer than the bfloat16 that runs.
    """
    openvino = import_openvino()
    entry = directory / _key(network, [])
    _write(openvino, _convert(runtime(), network), entry, half=True)
    return entry


def _cached(openvino: ModuleType, core: Any, network: Network, cache: Path | None) -> Any:  # noqa: ANN401
    """Return the converted network, from the package or the cache when an intact one is there."""
    shipped = SHIPPED / _key(network, [])
    if _intact(shipped):
        return core.read_model(shipped / "model.xml")
    if cache is None:
        return _convert(core, network)
    packages = ("torch", "torchvision", "timm")
    versions = [__version__, openvino.get_version(), *(version(name) for name in packages)]
    entry = cache / _key(network, versions)
    if _intact(entry):
        return core.read_model(entry / "model.xml")
    model = _convert(core, network)
    try:
        _write(openvino, model, entry, half=False)
    except OSError as error:
        _logger.warning("the converted model is not kept for the next run: %s", error)
    return model


def _key(network: Network, versions: Sequence[str]) -> str:
    facts = [network.name, network.weights_sha256(), network.preprocessing, str(CHUNK), *versions]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]


def _convert(core: Any, network: Network) -> Any:  # noqa: ANN401
    """Trace and convert; refuse a conversion that computes something else than the network."""
    # `openvino.convert_model` does the same, but reports to a web service.
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    _logger.info("converting %s for OpenVINO; the next run finds it converted", network.name)
    module = FromPixels(network).eval()
    pixels = _example(network.input_size)
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of fixed shapes: that is what is wanted
            # Tracing a second and a third time to compare is half of the time; see below.
            decoder = TorchScriptPythonDecoder(
                module, example_input=(pixels,), trace_kwargs={"check_trace": False}
            )
            expected = module(pixels).numpy()
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
        model.reshape(list(pixels.shape))
        found = core.compile_model(model, "CPU")([pixels.numpy()])[0]
    except Exception as error:  # each part of the conversion has errors of its own
        raise ModelError(
            f"OpenVINO cannot run {network.name}: {str(error).strip().splitlines()[0]}",
            hint="runtime=torch",
        ) from error
    cosine = _lowest_cosine(expected, found)
    if not cosine >= _LOWEST_COSINE:
        raise ModelError(
            f"OpenVINO gives other vectors for {network.name} than torch: cosine {cosine:.3f}",
            hint="runtime=torch",
        )
    return model


def _example(side: int) -> Tensor:
    """Blurred noise (CHUNK, S, S, 3): nearer to photographs than noise, and without any file."""
    noise = torch.rand(CHUNK, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    smooth = torch.nn.functional.interpolate(noise, size=(side, side), mode="bilinear")
    return smooth.permute(0, 2, 3, 1).to(torch.uint8).contiguous()


def _lowest_cosine(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    if expected.shape != found.shape:
        return float("nan")
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    return float(((expected * found).sum(axis=1) / norms).min())


def _write(openvino: ModuleType, model: Any, entry: Path, *, half: bool) -> None:  # noqa: ANN401
    """Write an entry beside and move it into place, so that nobody ever reads half of one."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=entry.parent))
    try:
        openvino.save_model(model, new / "model.xml", compress_to_fp16=half)
        (new / "sha256").write_text(_sums(new))
        shutil.rmtree(entry, ignore_errors=True)
        new.rename(entry)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _intact(entry: Path) -> bool:
    try:
        return (entry / "sha256").read_text() == _sums(entry)
    except (OSError, UnicodeDecodeError):
        return False


def _sums(entry: Path) -> str:
    lines = []
    for name in ("model.bin", "model.xml"):
        with (entry / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return "".join(lines)
