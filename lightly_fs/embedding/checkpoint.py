"""The tensors of weights files, and fitting them to a network."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lightly_fs.embedding.weights_file import READABLE, read_content
from lightly_fs.errors import ModelError
from lightly_fs.escaping import escape

State = Mapping[str, Tensor]

RECORD = "lightly_fs"
"""Beside `state_dict` in the checkpoints of our training: `{"model": NAME, "input_size": S}`."""

FINAL_LAYER = "final_layer"
"""True in that record when the network ends with a linear layer, which training put there."""

BACKBONE = "model.backbone."
"""What the names of the network's tensors begin with in those checkpoints."""

INNER = "network."
"""What follows on it in the names of the network before such a layer."""

_WRAPPERS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema", "teacher"),
    *("state_dict", "model_state_dict", "model", "network", "net", "student"),
)
"""Where training programs keep the parameters in their checkpoints; averaged ones first."""

_PREFIXES = (
    *("model_ema.", "ema_model.", "ema.", "teacher."),
    *("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "encoder_q.", "base_encoder."),
    *("network.", "net.", "student."),
)
"""What averaging, data parallelism, compiling and self-supervised methods put before the names."""

_COUNTERS = "num_batches_tracked"
_SMALLEST_INPUT, _LARGEST_INPUT = 8, 4096  # as `lightly.collate.input_size`
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """What is in a weights file.

    Attributes:
        state: Tensors by name.
        model: Which network they are of, as our training recorded it; None in other files.
        input_size: S, pixels, that it was trained with; None in other files.
        final_layer: Tensors of a linear layer behind that network, by `weight` and `bias`; None
            without such a layer. `state` has them not.
    """

    state: State
    model: str | None = None
    input_size: int | None = None
    final_layer: State | None = None


def read_state(path: Path) -> State:
    """Return the tensors of a safetensors file or a torch checkpoint, by name.

    Nothing in the file is executed: of torch checkpoints only tensors and plain values are read.

    Raises:
        ModelError: There is no such file, it is damaged, or it holds more than plain values.
    """
    return read_checkpoint(path).state


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the tensors of a file as `read_state` does, and what our training wrote beside them.

    Raises:
        ModelError: As `read_state`; or that record is not one of ours.
    """
    content = read_content(path)
    state = _tensors(path, content)
    record = content.get(RECORD) if isinstance(content, Mapping) else None
    if record is None or torch.is_tensor(record):
        return Checkpoint(state)
    facts: Mapping[object, object] = record if isinstance(record, Mapping) else {}
    model, size = facts.get("model"), facts.get("input_size")
    if not isinstance(model, str) or type(size) is not int:
        raise ModelError(
            f"{path} has a record `{RECORD}` without a model name and an input size in pixels",
            hint=f'"{RECORD}": {{"model": "bundled", "input_size": 64}}',
        )
    if not _SMALLEST_INPUT <= size <= _LARGEST_INPUT:
        raise ModelError(
            f"{path} says that its network takes images of {size} pixels",
            hint=f"write an input_size from {_SMALLEST_INPUT} to {_LARGEST_INPUT} beside it",
        )
    ends = facts.get(FINAL_LAYER, False)
    if not isinstance(ends, bool):
        raise ModelError(
            f"{path} has a record `{RECORD}` whose `{FINAL_LAYER}` is neither True nor False",
            hint=f'"{FINAL_LAYER}": True, when the network ends with a linear layer',
        )
    if not ends:
        return Checkpoint(state, model, size)
    return Checkpoint(_inner(state), model, size, _layer(state))


def _inner(state: State) -> State:
    """Return the tensors without a final layer, named as those of a network without one."""
    before, layer = f"{BACKBONE}{INNER}", f"{BACKBONE}{FINAL_LAYER}."
    return {
        f"{BACKBONE}{name.removeprefix(before)}" if name.startswith(before) else name: value
        for name, value in state.items()
        if not name.startswith(layer)
    }


def _layer(state: State) -> State:
    prefix = f"{BACKBONE}{FINAL_LAYER}."
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def _tensors(path: Path, content: object) -> State:
    seen: set[int] = set()
    while isinstance(content, Mapping) and id(content) not in seen:
        seen.add(id(content))
        held = (content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping))
        inner = next(held, None)
        if inner is not None:
            content = inner
            continue
        tensors = {str(name): value for name, value in content.items() if torch.is_tensor(value)}
        for name, value in tensors.items():
            if kind := _unusual(value):
                raise ModelError(
                    f"{path} holds `{escape(name)}` as a {kind} tensor, which no network takes",
                    hint="save dense, real tensors that are on a device: tensor.cpu().float()",
                )
        if tensors:
            return tensors
        break
    raise ModelError(f"{path} holds no named tensors", hint=READABLE)


def _unusual(value: Tensor) -> str | None:
    """Say what a tensor is that cannot be copied into a network as it is; None: a usual one."""
    kinds = {
        "meta (empty)": value.is_meta,
        "nested": value.is_nested,
        "sparse": value.layout is not torch.strided,
        "quantized": value.is_quantized,
        "complex": value.is_complex(),
    }
    return next((kind for kind, found in kinds.items() if found), None)


def require_finite(source: str, module: nn.Module) -> None:
    """Refuse weights that are not numbers, which a training that diverged leaves.

    Infinite buffers are left alone but for the statistics of norms: masks and limits hold such.

    Args:
        source: Where they come from, for the message.
        module: The network that has them.

    Raises:
        ModelError: A parameter or a statistic is NaN or infinite.
    """
    learnt = {name for name, _ in module.named_parameters()}
    for name, value in module.state_dict().items():
        strict = name in learnt or name.endswith(("running_mean", "running_var"))
        if value.is_floating_point() and not _is_finite(value, strict=strict):
            raise ModelError(
                f"{source} has NaN or infinite values in `{name}`: no image gets an embedding",
                hint="take a checkpoint from before the training diverged, or fetch it again",
            )


def _is_finite(value: Tensor, *, strict: bool) -> bool:
    return bool(torch.isfinite(value).all() if strict else not torch.isnan(value).any())


def load_state(module: nn.Module, state: State, *, head: Sequence[str] = ()) -> str | None:
    """Load `state` when every parameter of `module` is in it; else say what does not fit.

    Tolerated are the prefixes that training wrappers add, the names that `nn.Sequential` gives the
    children of a backbone, and the tensors of the classifier `head`, which no embedding needs.
    """
    wanted = {n: t for n, t in module.state_dict().items() if not n.endswith(_COUNTERS)}
    best = max(_readings(module, state), key=lambda reading: _matches(wanted, reading))
    problems = _differences(wanted, best, head)
    if problems:
        return "; ".join(problems)
    if len(best) < len(state):
        _logger.info("%d other tensors of the weights file are not used", len(state) - len(best))
    exact = OrderedDict(best)
    # Layers that changed their format look for the version here; these are in today's.
    exact._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]
    module.load_state_dict(exact, strict=False)
    return None


def _readings(module: nn.Module, state: State) -> Iterator[State]:
    """Yield `state` with each combination of wrapper prefixes taken off."""
    yield state
    children = [name for name, _ in module.named_children()]
    if any(re.match(r"\d+\.", name) for name in state):
        yield dict(_named(state, children))
    for prefix in _PREFIXES:
        inner = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
        if inner:
            yield from _readings(module, inner)


def _named(state: State, children: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    """Undo `nn.Sequential(*network.children())`: `4.0.conv1.weight` is `layer1.0.conv1.weight`."""
    for name, value in state.items():
        index, _, rest = name.partition(".")
        if index.isdigit() and int(index) < len(children):
            yield f"{children[int(index)]}.{rest}", value


def _matches(wanted: State, found: State) -> int:
    return sum(name in found and found[name].shape == t.shape for name, t in wanted.items())


def _differences(wanted: State, found: State, head: Sequence[str]) -> list[str]:
    missing = [name for name in wanted if name not in found]
    shaped = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    ignored = tuple(f"{name}." for name in head)
    unexpected = [
        name
        for name in found
        if name not in wanted and not name.endswith(_COUNTERS) and not name.startswith(ignored)
    ]
    named = {"missing": missing, "of another shape": shaped, "unexpected": unexpected}
    return [f"{_some(names)} {problem}" for problem, names in named.items() if names]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(escape, names[:3]))
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def guess_name(state: State) -> str | None:
    """Return a model name that tensors called like these belong to, for hints; None: no idea."""
    names = set(state)
    blocks = "-".join(
        str(len({found[1] for found in map(re.compile(stage).search, names) if found}))
        for stage in (rf"(?:^|\.)layer{number}\.(\d+)\.conv1\.weight" for number in (1, 2, 3, 4))
    )
    bottleneck = any(name.endswith("layer1.0.conv3.weight") for name in names)
    if blocks in _RESNETS:
        plain, deep = _RESNETS[blocks]
        return f"timm/{deep if bottleneck else plain}"
    width = [state[n].shape[0] for n in names if n.endswith("patch_embed.proj.weight")]
    return f"timm/vit_{_VITS[width[0]]}_patch16_224" if width and width[0] in _VITS else None


_RESNETS = {
    "2-2-2-2": ("resnet18", "resnet26"),
    "3-4-6-3": ("resnet34", "resnet50"),
    "3-4-23-3": ("resnet101", "resnet101"),
    "3-8-36-3": ("resnet152", "resnet152"),
}
_VITS = {192: "tiny", 384: "small", 768: "base", 1024: "large"}
