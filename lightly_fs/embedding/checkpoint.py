"""Weights files: reading them without running code, and fitting them to a network."""

from __future__ import annotations

import logging
import pickle
import re
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lightly_fs.errors import ModelError

State = Mapping[str, Tensor]

RECORD = "lightly_fs"
"""Beside `state_dict` in the checkpoints of our training: `{"model": NAME, "input_size": S}`."""

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
_LARGEST_INPUT = 4096
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """What is in a weights file.

    Attributes:
        state: Tensors by name.
        model: Which network they are of, as our training recorded it; None in other files.
        input_size: S, pixels, that it was trained with; None in other files.
    """

    state: State
    model: str | None = None
    input_size: int | None = None


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
    content = _content(path)
    state = _tensors(path, content)
    record = content.get(RECORD) if isinstance(content, Mapping) else None
    if record is None or torch.is_tensor(record):
        return Checkpoint(state)
    facts: Mapping[object, object] = record if isinstance(record, Mapping) else {}
    model, size = facts.get("model"), facts.get("input_size")
    if not isinstance(model, str) or type(size) is not int or not 0 < size <= _LARGEST_INPUT:
        raise ModelError(
            f"{path} has a record `{RECORD}` without a model name and an input size in pixels",
            hint=f'"{RECORD}": {{"model": "bundled", "input_size": 64}}',
        )
    return Checkpoint(state, model, size)


def _content(path: Path) -> object:
    try:
        with path.open("rb") as file:
            head = file.read(16)
        # A zip archive, or a pickle of torch before 1.6.
        if head[:4] == b"PK\x03\x04" or head[:1] == b"\x80":
            problem = _archive(path)
            if problem is None:
                with torch.serialization.safe_globals(list(_STAND_INS)):
                    content: object = torch.load(path, map_location="cpu", weights_only=True)
                return content
        else:
            problem = _other_kind(path, head)
            if problem is None:
                return load_file(path)
    except FileNotFoundError as error:
        raise ModelError(f"there is no weights file {path}", hint=_READABLE) from error
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ModelError(
            f"{path} holds Python objects beside its tensors"
            f"{f' ({found[1]})' if found else ''}, and loading those can run any code",
            hint="where you trust it, save only the parameters: "
            "torch.save(torch.load(FILE, weights_only=False)['state_dict'], 'weights.pth')",
        ) from error
    except Exception as error:  # a damaged file fails anywhere in its reader
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path} is no readable weights file: {reason}", hint=_READABLE) from error
    raise ModelError(f"{path} is {problem}", hint=_READABLE)


def _archive(path: Path) -> str | None:
    """Say what is wrong with a zip archive or pickle; None when torch may read it."""
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if not zipped:
        # The archives of torch before 0.1.10, which torch 2.5 unpickles even with `weights_only`
        # (CVE-2025-32434), may begin with any byte.
        return "a tar archive, no weights file" if tarfile.is_tarfile(path) else None
    if not zipfile.is_zipfile(path):
        return "cut off: the end of its zip archive is missing"
    with zipfile.ZipFile(path) as archive:
        names = [name.rpartition("/")[2] for name in archive.namelist()]
    if "constants.pkl" in names:
        return "a TorchScript program, no weights file"
    return None if "data.pkl" in names else "a zip archive, but not one of torch.save"


def _other_kind(path: Path, head: bytes) -> str | None:
    if not head:
        return "empty"
    for magic, kind in _KINDS.items():
        if head.startswith(magic):
            return f"{kind}, no weights file"
    return "a tar archive, no weights file" if tarfile.is_tarfile(path) else None


_READABLE = "a .safetensors file, or a state dict written with torch.save"

_KINDS = {
    b"\x89HDF": "an HDF5 file (Keras)",
    b"\x1f\x8b": "compressed with gzip",
    b"\xff\xd8\xff": "an image",
    b"\x89PNG": "an image",
    b"\x93NUMPY": "a numpy array",
    b"GGUF": "a GGUF file",
    b"<": "a web page or XML",
    b"version https://": "a Git LFS pointer",
}
"""What people give by mistake, by its first bytes."""


class _Inert:
    """Stands for a Python object that training programs keep beside the tensors; does nothing."""

    def __new__(cls, *_: object, **__: object) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Forget it."""


class _InertMapping(_Inert):
    """Stands for a subclass of dict: a plain one takes the items."""

    def __new__(cls, *_: object, **__: object) -> dict[object, object]:  # type: ignore[misc]
        return {}


def _stand_in(full_name: str, kind: type[_Inert]) -> type[_Inert]:
    module, _, name = full_name.rpartition(".")
    return type(name, (kind,), {"__module__": module, "__qualname__": name})


_STAND_INS: tuple[type[_Inert], ...] = (
    *(
        _stand_in(name, _Inert)
        for name in (
            "argparse.Namespace",  # timm, DINO, MoCo, MAE: the arguments of the training
            "pathlib.PosixPath",
            "pathlib.WindowsPath",
            "numpy.core.multiarray.scalar",
            "numpy._core.multiarray.scalar",
            "numpy.dtype",
            "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
            "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
        )
    ),
    *(
        _stand_in(name, _InertMapping)
        for name in (
            "pytorch_lightning.utilities.parsing.AttributeDict",
            "lightning_fabric.utilities.data.AttributeDict",
            "lightning.fabric.utilities.data.AttributeDict",
        )
    ),
)
"""The objects that checkpoints commonly hold beside tensors, read as nothing.

The names stand for the classes above: the real ones are never imported, called or changed. Any
other object makes a file unreadable."""


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
