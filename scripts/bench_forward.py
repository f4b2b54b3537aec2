"""The forward pass on every runtime that is here: images per second and cosine to float32 in torch.

    python scripts/bench_forward.py --data DIR --table
    python scripts/bench_forward.py --models bundled timm/mobilenetv4_conv_small --images DIR

Cases: torch eager in float32 (the reference), compiled, and on CUDA in float32 and bfloat16;
OpenVINO in float32, bfloat16 and int8, in chunks of 8 images in its throughput mode, as in a run.
Every second image is measured; the others calibrate int8 (nncf's post-training quantisation, where
`pip install nncf` has been done). Pixels to vectors, normalising included, decoding not; the cases
take turns round by round, so that a busy machine slows all of them.

OpenVINO gets weights rounded to float16, as the package ships them; bundled ones are so already.
Where a model's weights cannot be had, random ones run: the speed is the same, the cosines say
little then. A case that this machine cannot run is named on standard error and left
out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightly_fs.config.run import PropertiesMode, RunConfig
from lightly_fs.decoding.images import DecodeSettings, decode_image
from lightly_fs.embedding.embedder import FromPixels, Network
from lightly_fs.embedding.load import load_network
from lightly_fs.embedding.openvino_runtime import CHUNK, import_openvino, runtime, ship
from lightly_fs.embedding.torch_runtime import TorchEmbedder
from lightly_fs.errors import LightlyFSError, ModelError

MODELS = ("bundled", "timm/mobilenetv4_conv_small")
BATCH = 64
REFERENCE = "torch f32"
CASES = (
    *(REFERENCE, "torch f32 compiled", "CUDA f32", "CUDA bf16"),
    *("OpenVINO f32", "OpenVINO bf16", "OpenVINO int8"),
)
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
Vectors = NDArray[np.float32]
Embed = Callable[[Tensor], Vectors]
Record = dict[str, object]


def read(directory: Path, side: int, most: int) -> tuple[Tensor, Tensor]:
    """Images to measure and images to calibrate with, (N, S, S, 3) uint8, N a multiple of 8."""
    settings = DecodeSettings(side, properties=PropertiesMode.OFF)
    files = sorted(p for p in directory.rglob("*") if p.suffix.lower() in SUFFIXES)[:most]
    decoded = [decode_image(path.read_bytes(), settings) for path in files]
    pixels = [image.pixels for image in decoded if not isinstance(image, str)]
    count = len(pixels) // (2 * CHUNK) * 2 * CHUNK
    if not count:
        raise SystemExit(f"{directory} holds fewer than {2 * CHUNK} images")
    stacked = torch.from_numpy(np.stack(pixels[:count]))
    return stacked[::2].contiguous(), stacked[1::2].contiguous()


def network_of(name: str, file: str) -> tuple[Network, str]:
    """The network, and which weights it has: `own`, a file's, or `random` for want of others."""
    for weights in (file, "random"):
        try:
            return load_network(RunConfig.model_validate({"model": name, "weights": weights})), (
                weights or "own"
            )
        except ModelError as error:
            if file or weights or name == "bundled":
                raise
            print(f"{name} runs with random weights: {error.message}", file=sys.stderr)
    raise AssertionError


def eager(network: Network, device: str = "cpu") -> Embed:
    module = FromPixels(network).eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return partial(_in_batches, module, device)


def compiled(network: Network) -> Embed:
    module = FromPixels(network).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return partial(_in_batches, torch.compile(module, dynamic=False), "cpu")


@torch.inference_mode()
def _in_batches(module: Callable[[Tensor], Tensor], device: str, pixels: Tensor) -> Vectors:
    """Full batches alone, so that nothing is compiled twice; the last one is padded."""
    parts = []
    for part in pixels.split(BATCH):  # type: ignore[no-untyped-call]
        padded = torch.cat([part, part.new_zeros((BATCH - len(part), *part.shape[1:]))])
        parts.append(module(padded.to(device))[: len(part)].float().cpu())
    return torch.cat(parts).numpy()


def cuda_bf16(network: Network) -> Embed:
    embedder = TorchEmbedder(network, torch.device("cuda"))
    return lambda pixels: np.concatenate(
        [embedder.embed(part, []) for part in pixels.split(BATCH)]  # type: ignore[no-untyped-call]
    )


def converted(network: Network) -> Any:  # noqa: ANN401 - openvino is untyped
    """The network as the package would ship it."""
    openvino = import_openvino()
    with tempfile.TemporaryDirectory() as folder:
        entry = ship(network, Path(folder))
        weights = openvino.Tensor(np.fromfile(entry / "model.bin", np.uint8))
        return runtime().read_model((entry / "model.xml").read_bytes(), weights)


def openvino_at(model: Any, hint: str) -> Embed:  # noqa: ANN401 - openvino is untyped
    openvino, core = import_openvino(), runtime()
    if hint == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ModelError("this processor has no bfloat16")
    options = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "THROUGHPUT"}
    program = core.compile_model(model, "CPU", options)
    requests = openvino.AsyncInferQueue(program)
    requests.set_callback(_store)

    def embed(pixels: Tensor) -> Vectors:
        images = pixels.numpy()
        vectors = np.empty((len(images), *program.output(0).shape[1:]), np.float32)
        for start in range(0, len(images), CHUNK):
            chunk = openvino.Tensor(images[start : start + CHUNK], shared_memory=True)
            requests.start_async([chunk], vectors[start : start + CHUNK])
        requests.wait_all()
        return vectors

    return embed


def _store(request: Any, rows: Vectors) -> None:  # noqa: ANN401 - openvino is untyped
    rows[:] = request.get_output_tensor(0).data


def quantised(model: Any, calibration: Tensor) -> Any:  # noqa: ANN401 - openvino is untyped
    """Weights and activations to int8, ranges from the calibration images."""
    if importlib.util.find_spec("nncf") is None:
        raise ModelError("int8 needs nncf", hint="pip install nncf")
    hidden = sys.modules.get("openvino_telemetry")
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # it reports to a web service
    try:
        nncf = importlib.import_module("nncf")
    finally:
        del sys.modules["openvino_telemetry"]
        if hidden is not None:
            sys.modules["openvino_telemetry"] = hidden
    chunks = [chunk.numpy() for chunk in calibration.split(CHUNK)]  # type: ignore[no-untyped-call]
    with contextlib.redirect_stdout(sys.stderr):  # where its progress belongs
        return nncf.quantize(model, nncf.Dataset(chunks), subset_size=len(chunks))


def cases(network: Network, calibration: Tensor) -> Iterator[tuple[str, Callable[[], Embed]]]:
    """Names, and what makes each of them ready; the reference comes first."""
    yield REFERENCE, partial(eager, network)
    yield "torch f32 compiled", partial(compiled, network)
    if torch.cuda.is_available():
        yield "CUDA f32", partial(eager, network, "cuda")
        yield "CUDA bf16", partial(cuda_bf16, network)
    if importlib.util.find_spec("openvino") is not None:
        model = converted(network)
        yield "OpenVINO f32", partial(openvino_at, model, "f32")
        yield "OpenVINO bf16", partial(openvino_at, model, "bf16")
        yield "OpenVINO int8", lambda: openvino_at(quantised(model, calibration), "f32")


def started(
    network: Network, pixels: Tensor, calibration: Tensor, wanted: Sequence[str]
) -> dict[str, tuple[Embed, Vectors]]:
    """What runs here, with its vectors."""
    ready = {}
    for case, make in cases(network, calibration):
        if case not in wanted and case != REFERENCE:
            continue
        try:
            embed = make()
            ready[case] = embed, embed(pixels)
        except Exception as error:  # noqa: BLE001 - compilers and drivers have errors of their own
            said = error.message if isinstance(error, LightlyFSError) else str(error)
            print(
                f"{case} is left out: {(said.strip() or repr(error)).splitlines()[0]}",
                file=sys.stderr,
            )
    return ready


def measure(name: str, file: str, directory: Path, args: argparse.Namespace) -> Iterator[Record]:
    network, weights = network_of(name, file)
    pixels, calibration = read(directory, network.input_size, args.most)
    ready = started(network, pixels, calibration, args.cases)
    reference = next(iter(ready.values()))[1]
    spent: dict[str, list[tuple[float, float]]] = {case: [] for case in ready}
    for _ in range(args.rounds):
        for case, (embed, _) in ready.items():
            wall, cpu = time.perf_counter(), time.process_time()
            embed(pixels)
            spent[case].append((time.perf_counter() - wall, time.process_time() - cpu))
    for case, (_, vectors) in ready.items():
        norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
        cosine = (vectors * reference).sum(axis=1) / norms
        yield {
            "model": name,
            "weights": weights,
            "side": network.input_size,
            "case": case,
            "images_per_s": round(len(pixels) / statistics.median(w for w, _ in spent[case])),
            "cpu_ms": round(1e3 * min(cpu for _, cpu in spent[case]) / len(pixels), 3),
            "cosine_mean": round(float(cosine.mean()), 6),
            "cosine_min": round(float(cosine.min()), 6),
            "images": len(pixels),
            "cores": len(os.sched_getaffinity(0)),
        }


def table(records: list[Record]) -> str:
    lines = [
        "| model | px | runtime | images/s | CPU ms per image | cosine, mean | cosine, least |",
        "|---|--:|---|--:|--:|--:|--:|",
    ]
    for r in records:
        model = str(r["model"]) + (" (random weights)" if r["weights"] == "random" else "")
        lines.append(
            f"| {model} | {r['side']} | {r['case']} | {r['images_per_s']:,} | {r['cpu_ms']:.2f} "
            f"| {r['cosine_mean']:.5f} | {r['cosine_min']:.5f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    data = os.environ.get("LIGHTLY_FS_TEST_DATA")
    parser.add_argument("--data", type=Path, default=data, help="its coco128/images are measured")
    parser.add_argument("--images", type=Path, help="another folder of images")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--weights", nargs="+", default=[], metavar="NAME=FILE")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--most", type=int, default=512, help="images, half of them to calibrate")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--table", action="store_true", help="a markdown table after the lines")
    args = parser.parse_args()
    if not (args.images or args.data):
        parser.error("--images or --data is needed")
    files = dict(given.partition("=")[::2] for given in args.weights)
    directory = args.images or args.data / "coco128" / "images"
    records = []
    for name in args.models:
        for record in measure(name, files.get(name, ""), directory, args):
            print(json.dumps(record), flush=True)
            records.append(record)
    if args.table:
        print(f"\n{table(records)}")


if __name__ == "__main__":
    main()
