"""Files of weights: what is in them, read without running code, or why they are refused."""

from __future__ import annotations

import pickle
import re
import stat
import tarfile
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from lightly_fs.errors import ModelError
from lightly_fs.escaping import escape

READABLE = "a .safetensors file, or a state dict written with torch.save"
"""What can be given, for hints."""


def require_file(path: Path, kind: str, hint: str) -> None:
    """Refuse what is no regular file before it is opened: a pipe may never say anything.

    Args:
        path: What was given.
        kind: What should be there, for the message.
        hint: What to give.

    Raises:
        ModelError: There is nothing, or something else.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise ModelError(f"there is no {kind} {path}", hint=hint) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is no readable {kind}: {error}", hint=hint) from error
    if not stat.S_ISREG(mode):
        found = "directory" if stat.S_ISDIR(mode) else "pipe, a device or a socket"
        raise ModelError(f"{path} is no readable {kind}: it is a {found}", hint=hint)


def read_content(path: Path) -> object:
    """Return what is in a weights file: tensors by name, or whatever holds them.

    Nothing in the file is executed: of torch checkpoints only tensors and plain values are read.

    Raises:
        ModelError: There is no such file, it is damaged, or it holds more than plain values.
    """
    require_file(path, "weights file", READABLE)
    try:
        with path.open("rb") as file:
            head = file.read(16)
        # A zip archive, or a pickle of torch before 1.6.
        if head[:4] == b"PK\x03\x04" or head[:1] == b"\x80":
            problem = _archive(path)
            if problem is None:
                with (
                    torch.serialization.safe_globals(list(_STAND_INS)),
                    warnings.catch_warnings(),
                ):
                    warnings.simplefilter("ignore")  # of torch's own readers, to their callers
                    content: object = torch.load(path, map_location="cpu", weights_only=True)
                return content
        else:
            problem = _other_kind(path, head)
            if problem is None:
                return load_file(path)
    except pickle.UnpicklingError as error:
        if "Unsupported operand" in str(error):
            problem = "no readable weights file: a pickle, but not one of torch.save"
            raise ModelError(f"{path} is {problem}", hint=READABLE) from error
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ModelError(
            f"{path} holds Python objects beside its tensors"
            f"{f' ({found[1]})' if found else ''}, and loading those can run any code",
            hint="where you trust it, save only the parameters: "
            "torch.save(torch.load(FILE, weights_only=False)['state_dict'], 'weights.pth')",
        ) from error
    except Exception as error:  # a damaged file fails anywhere in its reader
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path} is no readable weights file: {reason}", hint=READABLE) from error
    raise ModelError(f"{path} is {problem}", hint=READABLE)


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
        if "data.pkl" not in names:
            return "a zip archive, but not one of torch.save"
        damaged = _damaged(archive)
    return f"damaged: the checksum of {escape(damaged)} in it does not hold" if damaged else None


def _damaged(archive: zipfile.ZipFile) -> str | None:
    """Return the first record with another checksum than the archive says, which torch ignores."""
    for record in archive.infolist():
        if not record.CRC:  # torch.serialization.set_crc32_options(False) writes none
            continue
        try:
            with archive.open(record) as content:
                while content.read(1 << 20):
                    pass
        except zipfile.BadZipFile:
            return record.filename
    return None


def _other_kind(path: Path, head: bytes) -> str | None:
    if not head:
        return "empty"
    for magic, kind in _KINDS.items():
        if head.startswith(magic):
            return f"{kind}, no weights file"
    return "a tar archive, no weights file" if tarfile.is_tarfile(path) else None


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
