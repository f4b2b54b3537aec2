"""Detection models of torchvision, with their weights, on one device."""

from __future__ import annotations

import difflib
import hashlib
import json
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType
from lightly_fs.config.run import RunConfig
from lightly_fs.config.selection import PRETAGGING_TASK
from lightly_fs.embedding.checkpoint import State, read_state, require_finite
from lightly_fs.embedding.download import NO_WEIGHTS_HINT, download, is_url
from lightly_fs.embedding.embedder import Network
from lightly_fs.embedding.load import cache_directory, choose_device
from lightly_fs.errors import ConfigError, ModelError
from lightly_fs.escaping import escape
from lightly_fs.pretagging.config import PretaggingConfig
from lightly_fs.pretagging.detections import Detections
from lightly_fs.pretagging.scaling import InputSize, Size

_NO_CLASS = ("__background__", "N/A", "no person")
_COUNTERS = "num_batches_tracked"
_WRAPPERS = ("module.", "_orig_mod.")
_WITHOUT_EPSILON = frozenset(
    {
        "fasterrcnn_resnet50_fpn",
        "keypointrcnn_resnet50_fpn",
        "maskrcnn_resnet50_fpn",
        "retinanet_resnet50_fpn",
    }
)
"""Their COCO weights were trained when torchvision's frozen batch norms added nothing to the
variance (pytorch/vision#2933), and it loads them so until today."""


def detector_names() -> list[str]:
    return list(torchvision.models.list_models(module=torchvision.models.detection))


class Detector:
    """A detector that is ready to look at images.

    Attributes:
        schema: The task that it predicts.
        size: How large it wants its images.
        facts: Which detector this is, for the record.
        digest: SHA-256 of all that decides what it finds.
    """

    def __init__(
        self,
        module: nn.Module,
        names: Sequence[str],
        settings: PretaggingConfig,
        device: torch.device,
    ) -> None:
        """Take a module of torchvision.

        Args:
            module: Images to boxes, labels and scores.
            names: Of its classes, by label; the first is the background.
            settings: What is kept.
            device: Where it runs.
        """
        categories = _categories(names, settings)
        self.schema = TaskSchema(PRETAGGING_TASK, TaskType.OBJECT_DETECTION, categories)
        self.size = _input_size(module)
        self._places = np.full(len(names), -1, np.int32)
        self._places[[one.id for one in categories]] = np.arange(len(categories))
        self._most = settings.max_boxes
        self._device = device
        self.facts = _facts(module, self, settings)
        self.digest = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()
        _limit(module, settings)
        self._module = module.eval().to(device)

    @property
    def device(self) -> torch.device:
        return self._device

    def detect(self, images: Sequence[Tensor], sizes: Sequence[Size]) -> list[Detections]:
        """Return what is in each image of a batch.

        Args:
            images: (h, w, 3) uint8 RGB on the CPU, of sizes that `size.of` gives and that
                `size.padded` makes the same.
            sizes: Height and width of the whole images, in whose pixels the boxes will be.

        Raises:
            ModelError: The batch does not fit into the device's memory.
        """
        try:
            with torch.inference_mode():
                found = self._module([self._input(image) for image in images])
        except torch.OutOfMemoryError as error:
            count = len(images)
            raise ModelError(
                f"a batch of {count} images does not fit into the memory of {self._device}",
                hint=f"`batch_size: {count // 2}` in pretagging_config"
                if count > 1
                else "use device=cpu",
            ) from error
        return [
            self._detections(one, (image.shape[0], image.shape[1]), size)
            for one, image, size in zip(found, images, sizes, strict=True)
        ]

    def _input(self, image: Tensor) -> Tensor:
        return image.to(self._device).permute(2, 0, 1).float().div(255)

    def _detections(self, found: Mapping[str, Tensor], given: Size, whole: Size) -> Detections:
        corners = found["boxes"].cpu().numpy().astype(np.float64).reshape(-1, 4)
        places = self._places[found["labels"].cpu().numpy()]
        keep = np.flatnonzero(places >= 0)[: self._most]
        corners = corners[keep]
        corners[:, [0, 2]] *= whole[1] / given[1]
        corners[:, [1, 3]] *= whole[0] / given[0]
        corners = np.clip(corners, 0, [whole[1], whole[0]] * 2)
        corners[:, 2:] -= corners[:, :2]
        scores = found["scores"].cpu().numpy().astype(np.float64)[keep]
        return Detections(whole[1], whole[0], places[keep], scores, corners)


def load_detector(config: RunConfig, settings: PretaggingConfig) -> Detector:
    """Return the detector that `pretagging_config` asks for, on the run's device.

    Raises:
        ConfigError: There is no such detector, category or device.
        ModelError: The weights cannot be fetched or read, or do not fit.
    """
    if settings.model not in detector_names():
        near = difflib.get_close_matches(settings.model, detector_names(), n=3)
        raise ConfigError(
            f"pretagging_config: torchvision has no detector `{escape(settings.model)}`",
            hint=f"did you mean {' or '.join(near)}?" if near else ", ".join(detector_names()),
        )
    device = choose_device(config)
    names = _names(settings)
    _categories(names, settings)  # a mistake here shows before anything is fetched
    path = _weights_file(config, settings)
    module = build(settings, len(names))
    _load(module, read_state(path), f"{path}", settings)
    require_finite(str(path), module)
    return Detector(module, names, settings, device)


def _names(settings: PretaggingConfig) -> list[str]:
    """Return the classes of the weights by label; the first is the background."""
    if settings.category_names:
        if not settings.weights:
            raise ConfigError(
                "pretagging_config: `category_names` are those of own weights, and there is no "
                "`weights`",
                hint="`categories` keeps some of COCO's",
            )
        return [_NO_CLASS[0], *settings.category_names]
    return list(_coco(settings.model).meta["categories"])


def _coco(model: str) -> Any:  # noqa: ANN401 - torchvision is untyped
    return torchvision.models.get_model_weights(model).DEFAULT


def _categories(names: Sequence[str], settings: PretaggingConfig) -> tuple[Category, ...]:
    """Return the categories that are kept; ids are the labels of the detector."""
    own = bool(settings.category_names)
    known = {
        name: label
        for label, name in enumerate(names)
        if label > 0 and (own or name not in _NO_CLASS)
    }
    for name in settings.categories:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"pretagging_config: {settings.model} knows no category `{escape(name)}`"
                + (f", but `{near[0]}`" if near else ""),
                hint="its categories: " + ", ".join(known),
            )
    wanted = settings.categories or tuple(known)
    return tuple(Category(label, name) for name, label in known.items() if name in wanted)


def _weights_file(config: RunConfig, settings: PretaggingConfig) -> Path:
    if settings.weights and not is_url(settings.weights):
        return Path(config.shared_dir, settings.weights)
    url = settings.weights or str(_coco(settings.model).url)
    try:
        return download(url, cache_directory(config) / "weights")
    except ModelError as error:
        if error.hint == NO_WEIGHTS_HINT:
            error.hint = "give a local file with `weights: FILE` in pretagging_config"
        raise


def build(settings: PretaggingConfig, n_classes: int) -> nn.Module:
    """Return a detector of torchvision that waits for its weights.

    Args:
        settings: `model`, and whether it has classes of its own.
        n_classes: The background counts.
    """
    with torch.random.fork_rng(devices=[]):  # parameters are drawn, and replaced at once
        module: nn.Module = torchvision.models.get_model(
            settings.model, weights=None, weights_backbone=None, num_classes=n_classes
        )
    if settings.model in _WITHOUT_EPSILON and not settings.category_names:
        for layer in list(module.modules()):
            for name, norm in layer.named_children():
                if isinstance(norm, nn.BatchNorm2d):
                    setattr(layer, name, FrozenBatchNorm2d(norm.num_features, eps=0.0))
    return module


def _load(module: nn.Module, state: State, source: str, settings: PretaggingConfig) -> None:
    """Fill a module; torchvision itself renames what older versions of it called otherwise.

    Raises:
        ModelError: A parameter is missing, of another shape, or nobody wants it.
    """
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    try:
        left = module.load_state_dict(OrderedDict(state), strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
        problem = "; ".join(line.rstrip(".") for line in lines[:2]) or str(error)
        if len(lines) > 2:
            problem += f" and {len(lines) - 2} more"
    else:
        missing = [name for name in left.missing_keys if not name.endswith(_COUNTERS)]
        unexpected = [name for name in left.unexpected_keys if not name.endswith(_COUNTERS)]
        named = {"missing": missing, "unexpected": unexpected}
        problem = "; ".join(f"{_some(names)} {how}" for how, names in named.items() if names)
    if problem:
        raise ModelError(
            f"{source} does not fit torchvision/{settings.model}: {problem}",
            hint="`model` must name the detector that the weights were made for, and "
            "`category_names` its classes without the background, in pretagging_config",
        )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(escape, names[:3]))
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _input_size(module: Any) -> InputSize:  # noqa: ANN401 - the detectors share no type
    transform = module.transform
    fixed = transform.fixed_size
    return InputSize(
        fixed=(fixed[1], fixed[0]) if fixed else None,  # torchvision says width first
        shortest=int(transform.min_size[-1]),
        longest=int(transform.max_size),
        multiple=int(transform.size_divisible),
    )


def _limit(module: Any, settings: PretaggingConfig) -> None:  # noqa: ANN401 - as above
    """Let the detector itself drop what no score keeps: nothing better depends on it."""
    head = getattr(module, "roi_heads", module)
    # It keeps what is greater.
    head.score_thresh = float(np.nextafter(np.float32(settings.min_score), np.float32(-1)))
    head.detections_per_img = sys.maxsize  # how many is decided when the categories are known
    if hasattr(module, "roi_heads"):  # boxes alone are asked for
        head.mask_roi_pool = head.keypoint_roi_pool = None


def _facts(
    module: Any,  # noqa: ANN401 - as above
    detector: Detector,
    settings: PretaggingConfig,
) -> dict[str, Any]:
    size, transform = detector.size, module.transform
    network = Network.of(
        f"torchvision/{settings.model}",
        module,
        size.least,
        mean=tuple(transform.image_mean),
        std=tuple(transform.image_std),
    )
    how = (
        f"squash {size.least}"
        if size.fixed
        else f"shorter side {size.shortest}, longer side at most {size.longest}"
    )
    return {
        "model": network.name,
        "weights_sha256": network.weights_sha256(),
        "preprocessing": f"{how}, bilinear antialias",
        "runtime": f"torch {detector.device.type}",
        "precision": "f32",
        "min_score": settings.min_score,
        "max_boxes": settings.max_boxes,
        "categories": {str(one.id): one.name for one in detector.schema.categories},
    }
