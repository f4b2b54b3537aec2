"""Where the keys of an S3 account are found; `mount/credentials.sh` looks in the same order."""

from __future__ import annotations

import configparser
import stat
from collections.abc import Mapping
from pathlib import Path

from lightly_fs.datasource.bucket import Credentials
from lightly_fs.errors import MountError

_ETC_PASSWD = Path("/etc/passwd-s3fs")


def resolve_credentials(
    environ: Mapping[str, str],
    *,
    aws_profile: str | None = None,
    passwd_file: Path | None = None,
    iam_role: str | None = None,
    bucket: str | None = None,
) -> Credentials | None:
    """Return the keys from the first place that names them.

    The order: `passwd_file`, `aws_profile`, `iam_role`, the environment, `~/.aws/credentials`,
    `~/.passwd-s3fs`, `/etc/passwd-s3fs`.

    Args:
        environ: The environment; also says where the home directory is.
        aws_profile: Section of `~/.aws/credentials` (or `AWS_SHARED_CREDENTIALS_FILE`).
        passwd_file: s3fs password file with lines `KEY:SECRET` or `BUCKET:KEY:SECRET`.
        iam_role: Ask the instance for this role (`auto`: for the one it has).
        bucket: Bucket that they are for; selects a line of a password file.

    Returns:
        The keys, or None when the instance is to be asked.

    Raises:
        MountError: There are none (reason `credentials`), or `passwd_file` is not private or not
            what it should be (reason `passwd_file`).
    """
    aws_file = _aws_file(environ)
    if passwd_file is not None:
        return _read_passwd_file(passwd_file, bucket)
    if aws_profile:
        return _read_aws_profile(aws_file, aws_profile) or _no_profile(aws_file, aws_profile)
    if iam_role:
        return None
    found = _from_environment(environ) or _read_aws_profile(
        aws_file, environ.get("AWS_PROFILE") or "default"
    )
    if found:
        return found
    for path in (Path(environ.get("HOME") or "/") / ".passwd-s3fs", _ETC_PASSWD):
        if path.is_file():
            return _read_passwd_file(path, bucket)
    raise MountError(
        f"no credentials for bucket `{bucket}`" if bucket else "no credentials",
        reason="credentials",
        hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --aws-profile, "
        "--passwd-file or --iam-role auto",
    )


def _aws_file(environ: Mapping[str, str]) -> Path:
    given = environ.get("AWS_SHARED_CREDENTIALS_FILE")
    return Path(given) if given else Path(environ.get("HOME") or "/") / ".aws" / "credentials"


def _from_environment(environ: Mapping[str, str]) -> Credentials | None:
    key = environ.get("AWS_ACCESS_KEY_ID") or environ.get("AWSACCESSKEYID")
    secret = environ.get("AWS_SECRET_ACCESS_KEY") or environ.get("AWSSECRETACCESSKEY")
    if not key:
        return None
    if not secret:
        raise MountError(
            "AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not", reason="credentials"
        )
    token = environ.get("AWS_SESSION_TOKEN") or environ.get("AWSSESSIONTOKEN")
    return Credentials(key, secret, token or None, "the environment")


def _read_aws_profile(path: Path, profile: str) -> Credentials | None:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(path.read_text(), str(path))
    except OSError:
        return None
    except (configparser.Error, UnicodeDecodeError) as error:
        # The parser quotes the line that it cannot read: it may hold a secret.
        raise MountError(
            f"`{path}` is no AWS credentials file ({type(error).__name__})", reason="credentials"
        ) from None
    section = dict(parser.items(profile)) if parser.has_section(profile) else {}
    key, secret = section.get("aws_access_key_id"), section.get("aws_secret_access_key")
    if not key or not secret:
        return None
    return Credentials(key, secret, section.get("aws_session_token"), f"{path} [{profile}]")


def _no_profile(path: Path, profile: str) -> Credentials:
    raise MountError(
        f"`{path}` has no profile `{profile}` with aws_access_key_id and aws_secret_access_key",
        reason="credentials",
        hint=f"aws configure --profile {profile}",
    )


def _read_passwd_file(path: Path, bucket: str | None) -> Credentials:
    default: Credentials | None = None
    for line in _private_text(path).splitlines():
        words = line.strip().split(":")
        if line.strip().startswith("#") or len(words) not in (2, 3) or not all(words):
            continue
        found = Credentials(words[-2], words[-1], None, str(path))
        if len(words) == 3 and words[0] == bucket:
            return found
        if len(words) == 2 and default is None:
            default = found
    if default is None:
        raise MountError(
            f"the password file `{path}` has no line KEY:SECRET or {bucket or 'BUCKET'}:KEY:SECRET",
            reason="passwd_file",
        )
    return default


def _private_text(path: Path) -> str:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text()
    except OSError as error:
        raise MountError(
            f"the password file `{path}` cannot be read: {error.strerror}",
            reason="passwd_file",
            hint=f"printf '%s' KEY:SECRET >{path}; chmod 600 {path}",
        ) from None
    # s3fs lets the group read the system's file, and nobody but the owner any other.
    if mode & (0o027 if path == _ETC_PASSWD else 0o077) or mode & 0o100:
        raise MountError(
            f"the password file `{path}` has mode {mode:o}: others can read it",
            reason="passwd_file",
            hint=f"chmod 600 {path}",
        )
    return text
