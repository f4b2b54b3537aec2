"""`lightly-fs sanity-check`: is this machine ready for a run? Also `run sanity_check=True`."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from lightly_fs import __version__
from lightly_fs.cli.console import counted

PACKAGES = ("torch", "torchvision", "timm", "openvino", "pillow", "simplejpeg", "av", "obstore")
MIN_SHM = 64 << 20
MIN_FILES = 1024
MIN_MEMORY = 4 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the sanity check; `ok` None is information without a verdict."""

    name: str
    ok: bool | None
    found: str
    hint: str = ""


@click.command("sanity-check")
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON on stdout.")
@click.option("--input", "input_uri", metavar="DIR|s3://…", default="", help="Also reach this.")
@click.option("--url", default=None, help="Endpoint of an s3:// input that is not on AWS.")
def sanity_check(as_json: bool, input_uri: str, url: str | None) -> int:
    """Check whether this machine is ready for a run.

    Versions, GPU, FUSE, s3fs, shared memory, limits and memory; with --input also the bucket.
    """
    return check_and_print(as_json=as_json, input_uri=input_uri, url=url)


def check_and_print(*, as_json: bool, input_uri: str, url: str | None = None) -> int:
    """Print every check; return 0 when none failed, else 1."""
    checks = list(run_checks(input_uri, url))
    failed = [check for check in checks if check.ok is False]
    if as_json:
        click.echo(json.dumps({"ok": not failed, "checks": [asdict(check) for check in checks]}))
        return 1 if failed else 0
    for check in checks:
        mark = {True: "ok  ", False: "FAIL", None: "    "}[check.ok]
        click.echo(f"{mark}  {check.name:<16} {check.found}")
        if check.hint and check.ok is not True:
            click.echo(f"      {'':<16} {check.hint}")
    if not failed:
        click.echo("\nCongratulations! It looks like lightly-fs is running!")
    return 1 if failed else 0


def run_checks(input_uri: str, url: str | None) -> Iterator[Check]:
    """Yield every check, quick ones first."""
    yield Check("lightly-fs", None, f"{__version__}, Python {platform.python_version()}")
    yield Check("packages", None, ", ".join(f"{name} {_version(name)}" for name in PACKAGES))
    checks: tuple[Callable[[], Check], ...] = (
        _fuse,
        _s3fs,
        _shared_memory,
        _open_files,
        _memory,
        _processor,
        _bundled_model,
    )
    for check in checks:
        yield check()
    if input_uri:
        yield _input(input_uri, url)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _fuse() -> Check:
    device = Path("/dev/fuse")
    if not device.exists():
        hint = "mounting needs it; in a container: --device /dev/fuse --cap-add SYS_ADMIN"
        return Check("FUSE", None, "no /dev/fuse", hint)
    usable = os.access(device, os.R_OK | os.W_OK)
    return Check("FUSE", usable, str(device), "" if usable else "chmod 666 /dev/fuse")


def _s3fs() -> Check:
    path = shutil.which("s3fs")
    if path is None:
        return Check("s3fs", None, "not installed", "mounting needs it: apt-get install s3fs")
    out = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    return Check("s3fs", True, out.splitlines()[0] if out else path)


def _shared_memory() -> Check:
    shm = Path("/dev/shm")  # noqa: S108 - the mount itself is what is looked at
    if not shm.is_dir():
        return Check("shared memory", None, "no /dev/shm")
    free = shutil.disk_usage(shm).free
    return Check("shared memory", free >= MIN_SHM, _gib(free), "docker run --shm-size=1024m")


def _open_files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    hint = "ulimit -n 90000; in a container: --ulimit nofile=90000:90000"
    return Check("open files", soft >= MIN_FILES, f"{soft} (hard limit {hard})", hint)


def _memory() -> Check:
    import psutil

    memory = psutil.virtual_memory()
    found = f"{_gib(memory.available)} of {_gib(memory.total)} available"
    return Check("memory", memory.total >= MIN_MEMORY, found, "4 GiB is the least for a run")


def _processor() -> Check:
    import torch

    from lightly_fs.cpus import usable_cpus

    cores = usable_cpus()
    if torch.cuda.is_available():
        names = ", ".join(
            torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
        )
        return Check("processor", True, f"{cores} cores; GPU: {names}")
    return Check("processor", None, f"{cores} cores; no CUDA GPU: the CPU runtime is used")


def _bundled_model() -> Check:
    from safetensors import safe_open

    from lightly_fs.embedding.bundled import BUNDLED_WEIGHTS

    with safe_open(BUNDLED_WEIGHTS, framework="pt") as weights:
        about = weights.metadata() or {}
    version, licence = about.get("version", "unknown"), about.get("licence", "of unknown origin")
    found = f"{about.get('architecture', 'model')}, version {version} of its weights, {licence}"
    return Check("bundled model", True, found)


def _input(input_uri: str, url: str | None) -> Check:
    from lightly_fs import pipeline
    from lightly_fs.config import load_config
    from lightly_fs.errors import LightlyFSError

    words = [f"input_dir={input_uri}"] + ([f"s3.url={url}"] if url else [])
    try:
        found = pipeline.estimate(load_config(words), os.environ)
    except LightlyFSError as error:
        return Check("input", ok=False, found=error.message, hint=error.hint or "")
    rate = f"{found.samples_per_second:,.0f} objects/s ({found.reader})"
    return Check("input", ok=True, found=f"{counted(found.objects, 'image')}, read at {rate}")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
