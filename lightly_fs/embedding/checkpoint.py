"""Weights files: reading them without running code, and fitting them to a network."""

from __future__ import annotations

import logging
import pickle
import re
import tarfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lightly_fs.errors import ModelError

State = Mapping[str, Tensor]

_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
"""Where training programs keep the parameters in their checkpoints; averaged ones first."""

_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.")
"""What data parallelism, compiling and self-supervised methods put before the names."""

_COUNTERS = "num_batches_tracked"
_logger = logging.getLogger(__name__)


def read_state(path: Path) -> State:
    """Return the tensors of a safetensors file or a torch checkpoint, by name.

    Nothing in the file is executed: of torch checkpoints only tensors and plain values are read.

    Raises:
        ModelError: There is no such file, it is damaged, or it holds more than plain values.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
        # A zip archive, or a pickle of torch before 1.6; not the tar archives before 0.1.10, which
        # torch 2.5 unpickles even with `weights_only` (CVE-2025-32434).
        legacy = head[:1] == b"\x80" and not tarfile.is_tarfile(path)
        torch_file = head == b"PK\x03\x04" or legacy
        content: object = (
            torch.load(path, map_location="cpu", weights_only=True)
            if torch_file
            else load_file(path)
        )
    except FileNotFoundError as error:
        raise ModelError(f"there is no weights file {path}", hint=_READABLE) from error
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds Python objects beside its tensors, and loading those can run any code",
            hint="where you trust it, save only the parameters: "
            "torch.save(torch.load(FILE, weights_only=False)['state_dict'], 'weights.pth')",
        ) from error
    except Exception as error:  # a damaged file fails anywhere in its reader
        raise ModelError(f"{path} is no readable weights file: {error}", hint=_READABLE) from error
    return _tensors(path, content)


_READABLE = "a .safetensors file, or a state dict written with torch.save"


def _tensors(path: Path, content: object) -> State:
    if isinstance(content, Mapping):
        for wrapper in _WRAPPERS:
            if isinstance(content.get(wrapper), Mapping):
                return _tensors(path, content[wrapper])
        tensors = {str(name): value for name, value in content.items() if torch.is_tensor(value)}
        if tensors:
            return tensors
    raise ModelError(f"{path} holds no named tensors", hint=_READABLE)


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
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
