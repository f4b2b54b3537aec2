"""Mount buckets with `mount/mount.sh`, prove that they are mounted, and keep them alive."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lightly_fs.datasource import table
from lightly_fs.datasource.bucket import Bucket
from lightly_fs.datasource.credentials import resolve_credentials
from lightly_fs.datasource.diagnose import Found, find_bucket
from lightly_fs.datasource.endpoint import endpoint_of, place, region_of
from lightly_fs.errors import MountError

logger = logging.getLogger(__name__)

_SAID = re.compile(r"^\w+\.sh: (?P<reason>[a-z0-9_-]+): (?P<message>.*)$", re.MULTILINE)
_HINT = re.compile(r"^hint: (.*)$", re.MULTILINE)
_NOTE = re.compile(r"^note: (.*)$", re.MULTILINE)
_HEALTH = {0: "ok", 66: "not-mounted", 69: "dead", 74: "failing", 75: "hung"}


@dataclass(frozen=True, kw_only=True)
class MountRequest:
    """What to mount where; the options of `mount.sh`.

    Attributes:
        prefix: Only what lies below it is shown.
        profile: `images`, `videos` (both read-only) or `output`; see `mount/profiles`.
        url: Endpoint; None is `AWS_ENDPOINT_URL`, or AWS.
        region: None is `AWS_REGION`, or the one the bucket is in.
        use_cache: Local directory for what was read.
        stripes: With more than one, as many further mounts at `DIRECTORY.stripes/1` and on.
        options: Passed on to s3fs.
        uid: Owner of everything below the directory.
        gid: Group of everything below the directory.
    """

    bucket: str
    directory: Path
    prefix: str = ""
    profile: str = "images"
    url: str | None = None
    region: str | None = None
    aws_profile: str | None = None
    passwd_file: Path | None = None
    iam_role: str | None = None
    use_cache: Path | None = None
    stripes: int = 1
    options: Sequence[str] = ()
    uid: int | None = None
    gid: int | None = None

    def locate(self, environ: Mapping[str, str]) -> Bucket:
        """Return the bucket with its keys.

        Raises:
            MountError: There are no credentials (reasons `credentials`, `passwd_file`).
        """
        return place(
            self.bucket,
            self.prefix,
            url=self.url or endpoint_of(environ),
            region=self.region or region_of(environ),
            credentials=resolve_credentials(
                environ,
                aws_profile=self.aws_profile,
                passwd_file=self.passwd_file,
                iam_role=self.iam_role,
                bucket=self.bucket,
            ),
        )


@dataclass(frozen=True)
class Mount:
    """A proved mount.

    Attributes:
        directory: Absolute.
        stripes: Further mounts of the same bucket and prefix; empty without stripes.
        bucket: What is mounted, with the region it is in.
        notes: What whoever asked should know.
    """

    request: MountRequest
    directory: Path
    stripes: tuple[Path, ...]
    bucket: Bucket
    notes: tuple[str, ...] = ()


def mount(request: MountRequest, environ: Mapping[str, str], *, timeout_s: float = 10) -> Mount:
    """Mount a bucket; return only when it is proved, leave nothing behind otherwise.

    Raises:
        MountError: `reason` is `credentials`, `passwd_file`, `bucket`, `prefix`, `region`,
            `dns`, `endpoint`, `timeout`, `fuse`, `s3fs`, `occupied`, `stale`, `directory` or
            `cache`.
    """
    deadline = time.monotonic() + timeout_s
    found = find_bucket(request.locate(environ), environ, timeout_s=timeout_s / 2)
    if request.profile != "output" and found.complete and not found.names and found.bucket.prefix:
        raise MountError(
            f"there is nothing below `{found.bucket.uri}`",
            reason="prefix",
            hint="check the prefix; names of objects are case-sensitive",
        )
    if {"", ".", ".."} & set(found.bucket.prefix.split("/")[:-1]):
        raise MountError(
            f"`{found.bucket.uri}` cannot be mounted: no folder is named ``, `.` or `..`",
            reason="s3fs",
            hint="use a prefix without `//`, `/./` and `/../`; objects can be read without a mount",
        )
    left_s = max(2, int(deadline - time.monotonic()))
    said = _run("mount.sh", [*_arguments(request, found.bucket), f"--timeout={left_s}"], environ)
    directory = _absolute(request.directory)
    try:
        _prove(directory, found, deadline)
    except MountError:
        with contextlib.suppress(MountError):
            unmount(directory, environ, force=True)
        raise
    stripes = tuple(
        Path(f"{directory}.stripes") / str(number)
        for number in range(1, request.stripes + 1 if request.stripes > 1 else 1)
    )
    request = replace(request, directory=directory)
    return Mount(request, directory, stripes, found.bucket, tuple(_NOTE.findall(said)))


def unmount(
    directory: Path, environ: Mapping[str, str], *, timeout_s: float = 10, force: bool = False
) -> None:
    """Unmount a directory and its stripes, alive, dead or hung, and forget its keys.

    Args:
        directory: Where it is mounted.
        environ: Says where our records are.
        timeout_s: How long to wait for those that still use it.
        force: Then pull it away from them.

    Raises:
        MountError: It is no mount (reason `not-mounted`), or in use (`busy`).
    """
    words = [str(directory), f"--timeout={int(timeout_s)}", *(["--force"] if force else [])]
    _run("unmount.sh", words, environ)


@contextmanager
def mounted(request: MountRequest, environ: Mapping[str, str]) -> Iterator[Mount]:
    """Mount for the duration of a block."""
    # A dead or hung mount that is about to be cleared must not be touched.
    top = table.entry_of(request.directory)
    is_mount = top is not None and top.directory == _absolute(request.directory)
    was_there = is_mount or request.directory.exists()
    made = mount(request, environ)
    try:
        yield made
    finally:
        try:
            unmount(made.directory, environ, force=request.profile != "output")
        except MountError as error:
            logger.warning("%s", error.message)
        if not was_there:
            with contextlib.suppress(OSError):
                made.directory.rmdir()


def remount(directory: Path, environ: Mapping[str, str], *, timeout_s: float = 10) -> Mount:
    """Mount again what is dead, hangs or is gone of a mount of ours, with fresh keys if there are.

    Of several callers one does it; the others wait and find it done.

    Args:
        directory: A mount or stripe, or a directory below one. A mount brings its stripes along.
        environ: Where fresh keys are looked for; those that s3fs had are the last resort.
        timeout_s: For each s3fs process.

    Raises:
        MountError: It is not ours (reason `unknown`), or cannot be mounted.
    """
    found = table.record_of(directory, environ)
    if found is None:
        raise MountError(
            f"`{directory}` lies on no mount that this user made",
            reason="unknown",
            hint=f"mount it again as before, or: lightly-fs mount BUCKET {directory}",
        )
    record, broken = found
    everything = (record.directory, *record.stripes)
    with _locked(record.state, timeout_s):
        for one in everything if broken == record.directory else (broken,):
            if health(one, environ, timeout_s=2) != "ok":
                logger.info("mounting %s again", one)
                _run("mount.sh", ["--remount", str(one), f"--timeout={int(timeout_s)}"], environ)
    values = record.values
    request = MountRequest(
        bucket=values["bucket"],
        prefix=values.get("prefix", ""),
        directory=record.directory,
        profile=values.get("profile", "images"),
        url=values.get("url") or None,
        region=values.get("region") or None,
        stripes=int(values.get("stripes") or 1),
    )
    return Mount(request, record.directory, record.stripes, record.bucket(environ))


def health(
    directory: Path, environ: Mapping[str, str] | None = None, *, timeout_s: float = 5
) -> str:
    """Return `ok`, `dead`, `hung`, `failing` or `not-mounted`; never takes longer than told.

    Another process asks the mount, so that nothing of ours can hang in it.
    """
    words = ["sh", str(_script("healthcheck.sh")), str(directory), str(max(1, int(timeout_s)))]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_shell_environ(environ or {}),
            timeout=timeout_s + 3,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "hung"
    return _HEALTH.get(done.returncode, "failing")


def check(
    directory: Path, environ: Mapping[str, str] | None = None, *, timeout_s: float = 5
) -> None:
    """Make sure that a mount, or the one that a directory lies on, answers.

    Raises:
        MountError: It is `dead`, `hung`, `failing` or `not-mounted` (these are the reasons).
    """
    entry = table.entry_of(directory)
    top = entry.directory if entry is not None and entry.is_s3fs else _absolute(directory)
    state = health(top, environ, timeout_s=timeout_s)
    if state != "ok":
        raise MountError(
            f"the mount at `{top}` is {state.replace('-', ' ')}",
            reason=state,
            hint=f"lightly-fs unmount {top}",
        )


def _absolute(directory: Path) -> Path:
    directory = directory.absolute()
    return directory.parent.resolve() / directory.name


def _arguments(request: MountRequest, bucket: Bucket) -> list[str]:
    prefix = bucket.prefix.rstrip("/")
    given = {
        "--profile": request.profile,
        "--url": bucket.url,
        "--region": bucket.region,
        "--aws-profile": request.aws_profile,
        "--passwd-file": request.passwd_file,
        "--iam-role": request.iam_role,
        "--use-cache": request.use_cache,
        "--stripes": request.stripes,
        "--uid": request.uid,
        "--gid": request.gid,
    }
    words = [f"{name}={value}" for name, value in given.items() if value is not None]
    words += [word for option in request.options for word in ("-o", option)]
    return [f"{bucket.name}:/{prefix}" if prefix else bucket.name, str(request.directory), *words]


def _script(name: str) -> Path:
    package = Path(__file__).parents[1]
    for folder in (package / "_mount", package.parent / "mount"):
        if (folder / name).is_file():
            return folder / name
    raise MountError(
        f"`{name}` is not installed with this package",
        reason="s3fs",
        hint="install lightly-fs again; a checkout has it in mount/",
    )


def _shell_environ(environ: Mapping[str, str]) -> dict[str, str]:
    usual = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    return {**usual, **environ}


def _run(script: str, words: Sequence[str], environ: Mapping[str, str]) -> str:
    """Run a script; return what it said to people, or raise what it said went wrong."""
    done = subprocess.run(
        ["sh", str(_script(script)), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=_shell_environ(environ),
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return done.stderr
    said, hint = _SAID.search(done.stderr), _HINT.search(done.stderr)
    raise MountError(
        said["message"] if said else f"{script} ended with {done.returncode}: {done.stderr[-500:]}",
        reason=said["reason"] if said else "s3fs",
        hint=hint[1] if hint else None,
    )


def _prove(directory: Path, found: Found, deadline: float) -> None:
    """See through the mount what S3 listed: all of a small directory, one name of a large one.

    `mount.sh` has seen the mount in the kernel's table, another `st_dev`, and a lookup that s3fs
    had to ask S3 for.
    """
    ordinary = [name for name in found.names if name not in (".", "..") and "/" not in name]
    if found.complete:
        words = ["ls", "-U", "--", str(directory)]
    elif ordinary:
        words = ["ls", "-d", "--", str(directory / ordinary[0])]
    else:
        return
    listing = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        failed = listing.wait(max(1.0, deadline - time.monotonic())) != 0
    except subprocess.TimeoutExpired:
        listing.kill()
        raise MountError(
            f"the mount at `{directory}` did not list its {len(found.names)} first names in time",
            reason="timeout",
            hint="check the network, or raise the time limit",
        ) from None
    if failed:
        raise MountError(
            f"the mount at `{directory}` does not show what `{found.bucket.uri}` holds",
            reason="s3fs",
            hint="s3fs cannot show keys with control characters (read_through=object reads them); "
            "else look at the system's log for messages of s3fs",
        )


@contextmanager
def _locked(state: Path, timeout_s: float) -> Iterator[None]:
    deadline = time.monotonic() + timeout_s
    with (state / "lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise MountError(
                        f"another process has been mounting `{state.name}` again for {timeout_s} s",
                        reason="busy",
                    ) from None
                time.sleep(0.05)
            else:
                break
        yield
