"""What is mounted where: the kernel's table, our records, and the bucket behind a directory.

Nothing here touches a mount: a dead one fails, and a hung one blocks, at the first `stat`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lightly_fs.datasource.bucket import Bucket, Credentials
from lightly_fs.datasource.credentials import resolve_credentials
from lightly_fs.datasource.endpoint import endpoint_of, parse_uri, place, region_of
from lightly_fs.errors import MountError

_MOUNTINFO = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of `/proc/self/mountinfo`.

    Attributes:
        device: `MAJOR:MINOR`, the same for every bind mount of one file system.
        root: What of the file system is shown: `/`, or a folder for a bind mount of one.
        directory: Where it is shown.
        source: For mounts of `mount.sh`: `s3://bucket/prefix/`.
    """

    device: str
    root: str
    directory: Path
    fstype: str
    source: str
    read_only: bool

    @property
    def is_s3fs(self) -> bool:
        return self.fstype == "fuse.s3fs"


@dataclass(frozen=True, slots=True)
class Record:
    """What `mount.sh` wrote down about a mount; holds no secret.

    Attributes:
        state: The mount's private folder; also holds the keys that s3fs was given.
    """

    state: Path
    values: Mapping[str, str]

    @property
    def directory(self) -> Path:
        return Path(self.values["directory"])

    @property
    def stripes(self) -> tuple[Path, ...]:
        count = int(self.values.get("stripes") or 1)
        folder = Path(f"{self.directory}.stripes")
        return tuple(folder / str(number) for number in range(1, count + 1)) if count > 1 else ()

    @property
    def uri(self) -> str:
        prefix = self.values.get("prefix", "")
        return f"s3://{self.values['bucket']}/{prefix}{'/' if prefix else ''}"

    @property
    def read_only(self) -> bool:
        return self.values.get("profile") != "output"

    def bucket(self, environ: Mapping[str, str]) -> Bucket:
        """Return the bucket, with keys as fresh as they can be found.

        Raises:
            MountError: There are no credentials any more.
        """
        return place(
            self.values["bucket"],
            self.values.get("prefix", ""),
            url=self.values.get("url") or None,
            region=self.values.get("region") or None,
            credentials=self._credentials(environ),
        )

    def _credentials(self, environ: Mapping[str, str]) -> Credentials | None:
        passwd_file = self.values.get("passwd_file")
        try:
            return resolve_credentials(
                environ,
                aws_profile=self.values.get("aws_profile") or None,
                passwd_file=Path(passwd_file) if passwd_file else None,
                iam_role=self.values.get("iam_role") or None,
                bucket=self.values["bucket"],
            )
        except MountError:
            kept = self._kept_credentials()
            if kept is None:
                raise
            return kept

    def _kept_credentials(self) -> Credentials | None:
        try:
            key, _, secret = (self.state / "passwd").read_text().strip().partition(":")
            token_file = self.state / "token"
            token = token_file.read_text().strip() if token_file.exists() else None
        except OSError:
            return None
        return Credentials(key, secret, token, self.values.get("found_in", ""))


def state_dir(environ: Mapping[str, str]) -> Path:
    """Return where `mount.sh` keeps one folder per mount of this user."""
    if given := environ.get("LIGHTLY_FS_STATE_DIR"):
        return Path(given)
    if os.getuid() == 0:
        return Path("/run/lightly-fs")
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "lightly-fs"
    return Path(environ.get("TMPDIR") or "/tmp") / f"lightly-fs-{os.getuid()}"  # noqa: S108


def mount_entries(text: str | None = None) -> list[MountEntry]:
    """Parse the kernel's table of mounts, in the order they were made."""
    if text is None:
        text = _MOUNTINFO.read_text(errors="surrogateescape")
    return [_parse_entry(line) for line in text.split("\n") if " - " in line]


def entry_of(directory: Path, entries: list[MountEntry] | None = None) -> MountEntry | None:
    """Return the mount that a directory lies on."""
    path = _physical(directory, entries := mount_entries() if entries is None else entries)
    holding = [entry for entry in entries if path.is_relative_to(entry.directory)]
    # The deepest mount shows; of two at one place, the later one.
    return max(reversed(holding), key=lambda entry: len(entry.directory.parts), default=None)


def is_s3fs(directory: Path) -> bool:
    """Return whether a directory lies on an s3fs mount, alive or not."""
    entry = entry_of(directory)
    return entry is not None and entry.is_s3fs


def records(environ: Mapping[str, str]) -> list[Record]:
    """Return the records of all mounts that this user made, in the order of their directories."""
    found = []
    for path in sorted(state_dir(environ).glob("*/record")):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        values = dict(line.split("=", 1) for line in lines if "=" in line)
        if values.get("directory") and values.get("bucket"):
            found.append(Record(path.parent, values))
    return found


def record_of(directory: Path, environ: Mapping[str, str]) -> tuple[Record, Path] | None:
    """Return the record of the mount that holds a directory, and the mount's own directory.

    That is the main directory, or the stripe, that `directory` is or lies below; also when the
    mount is gone, and for bind mounts of it.
    """
    path = Path(os.path.abspath(directory))  # noqa: PTH100 - resolve() would ask a hung mount
    known = records(environ)
    for record in known:
        for mounted in (record.directory, *record.stripes):
            if path.is_relative_to(mounted):
                return record, mounted
    entries = mount_entries()
    entry = entry_of(directory, entries)
    if entry is None or not entry.is_s3fs:
        return None
    same = {other.directory for other in entries if other.device == entry.device}
    for record in known:
        for mounted in (record.directory, *record.stripes):
            if mounted in same:
                return record, mounted
    return None


def bucket_of(directory: Path, environ: Mapping[str, str]) -> Bucket | None:
    """Return the bucket behind a directory on an s3fs mount, its prefix extended to the directory.

    Known from our record, the s3fs process's command line, or, where neither can be seen (in a
    container), from `LIGHTLY_FS_INPUT_URI` or `LIGHTLY_FS_OUTPUT_URI`.

    Returns:
        The bucket; None when the directory is on no s3fs mount, or its bucket or keys are unknown.
    """
    entries = mount_entries()
    entry = entry_of(directory, entries)
    if entry is None or not entry.is_s3fs:
        return None
    found = record_of(directory, environ)
    try:
        if found:
            bucket: Bucket | None = found[0].bucket(environ)
        else:
            same = {other.directory for other in entries if other.device == entry.device}
            bucket = _from_processes(same, environ) or _from_environment(entry, environ)
    except MountError:
        return None
    if bucket is None:
        return None
    below = _physical(directory, entries).relative_to(entry.directory)
    folders = (bucket.prefix.strip("/"), entry.root.strip("/"), *below.parts)
    return place(
        bucket.name,
        "/".join(folder for folder in folders if folder),
        url=bucket.url,
        region=bucket.region,
        credentials=bucket.credentials,
    )


def _parse_entry(line: str) -> MountEntry:
    before, _, after = line.partition(" - ")
    fields, (fstype, source, *_) = before.split(" "), after.split(" ")
    return MountEntry(
        device=fields[2],
        root=_unescape(fields[3]),
        directory=Path(_unescape(fields[4])),
        fstype=fstype,
        source=_unescape(source),
        read_only="ro" in fields[5].split(","),
    )


def _unescape(word: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), word)


def _physical(directory: Path, entries: list[MountEntry]) -> Path:
    """Resolve symbolic links, but not inside an s3fs mount, which may hang."""
    path = Path(os.path.abspath(directory))  # noqa: PTH100 - resolve() would ask a hung mount
    if any(entry.is_s3fs and path.is_relative_to(entry.directory) for entry in entries):
        return path
    return path.resolve()


def uri_of_process(directory: Path) -> str | None:
    """Return what the s3fs process of a mount was told to mount, if it can be seen."""
    for _, words in _s3fs_commands():
        places, options = _parse_command(words)
        if directory in map(Path, places):
            name, prefix = parse_uri(_bucket_word(places, options))
            return f"s3://{name}/{prefix}{'/' if prefix else ''}"
    return None


def _from_processes(directories: set[Path], environ: Mapping[str, str]) -> Bucket | None:
    for _, words in _s3fs_commands():
        places, options = _parse_command(words)
        if not directories.intersection(map(Path, places)):
            continue
        name, prefix = parse_uri(_bucket_word(places, options))
        passwd_file = options.get("passwd_file")
        return place(
            name,
            prefix,
            url=options.get("url") or options.get("host"),
            region=options.get("endpoint") or options.get("region"),
            credentials=resolve_credentials(
                environ,
                aws_profile=options.get("profile"),
                passwd_file=Path(passwd_file) if passwd_file else None,
                iam_role=options.get("iam_role"),
                bucket=name,
            ),
        )
    return None


def _s3fs_commands() -> Iterator[tuple[int, list[str]]]:
    """Yield the process number and the command line of every s3fs process."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = os.fsdecode(path.read_bytes()).rstrip("\0").split("\0")
        except OSError:
            continue
        if Path(words[0]).name == "s3fs":
            yield int(path.parent.name), words


def s3fs_pids(directory: Path) -> list[int]:
    """Return the processes that serve a mount, told by their command lines."""
    return [pid for pid, words in _s3fs_commands() if os.fspath(directory) in words]


def _parse_command(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """Split an s3fs command line into its places (bucket, directory) and its options."""
    places: list[str] = []
    options: dict[str, str] = {}
    rest = iter(words[1:])
    for word in rest:
        if not word.startswith("-"):
            places.append(word)
        elif word.startswith("-o"):
            for option in (word[2:] or next(rest, "")).split(","):
                name, _, value = option.partition("=")
                options[name] = value
    return places, options


def _bucket_word(places: list[str], options: Mapping[str, str]) -> str:
    """Return `bucket` or `bucket:/prefix`; s3fs cuts its own argument in two at the colon."""
    if "bucket" in options:
        return options["bucket"]
    return ":".join(places[:2]) if len(places) == 3 else places[0]


def _from_environment(entry: MountEntry, environ: Mapping[str, str]) -> Bucket | None:
    if entry.source.startswith("s3://"):
        uri = entry.source
    else:
        given = environ.get("LIGHTLY_FS_INPUT_URI", ""), environ.get("LIGHTLY_FS_OUTPUT_URI", "")
        known = [uri for uri in given if uri.startswith("s3://")]
        # A mount that is writable may be either; taking one bucket for the other is worse than
        # reading through the mount.
        if not known or (len(known) == 2 and not entry.read_only):
            return None
        uri = known[0]
    name, prefix = parse_uri(uri)
    return place(
        name,
        prefix,
        url=endpoint_of(environ),
        region=region_of(environ),
        credentials=resolve_credentials(environ, bucket=name),
    )
