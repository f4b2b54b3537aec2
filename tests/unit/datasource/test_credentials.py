"""Where keys are found, in which order, and what is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lightly_fs.datasource.credentials import resolve_credentials
from lightly_fs.errors import MountError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "# comment\n[default]\naws_access_key_id = DEFAULT\naws_secret_access_key=s-default%%\n"
        "[team one]\n  aws_access_key_id=TEAM\n\taws_secret_access_key = s-team/+=\n"
        "aws_session_token = t-team\n[empty]\nregion = eu-west-1\n"
    )
    return tmp_path


def passwd_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "passwd"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_environment_comes_before_the_credentials_file(home):
    environ = {"HOME": str(home), "AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "s-env"}

    found = resolve_credentials(environ)

    assert found is not None
    assert (found.access_key, found.secret_key, found.session_token) == ("ENV", "s-env", None)
    assert found.source == "the environment"


def test_session_token_of_the_environment_is_taken_along(home):
    found = resolve_credentials(
        {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "t"}
    )

    assert found is not None
    assert found.session_token == "t"


def test_default_profile_is_the_fallback(home):
    found = resolve_credentials({"HOME": str(home)})

    assert found is not None
    assert (found.access_key, found.secret_key) == ("DEFAULT", "s-default%%")


def test_aws_profile_of_the_environment_names_the_section(home):
    found = resolve_credentials({"HOME": str(home), "AWS_PROFILE": "team one"})

    assert found is not None
    assert (found.access_key, found.secret_key, found.session_token) == (
        "TEAM",
        "s-team/+=",
        "t-team",
    )


def test_named_profile_comes_before_the_environment(home):
    environ = {"HOME": str(home), "AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "s-env"}

    found = resolve_credentials(environ, aws_profile="team one")

    assert found is not None
    assert found.access_key == "TEAM"


@pytest.mark.parametrize("profile", ["missing", "empty"])
def test_profile_without_keys_is_named_in_the_error(home, profile):
    with pytest.raises(MountError, match=f"no profile `{profile}`") as raised:
        resolve_credentials({"HOME": str(home)}, aws_profile=profile)

    assert raised.value.reason == "credentials"
    assert raised.value.exit_code == 3


def test_shared_credentials_file_may_lie_elsewhere(home, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("[default]\naws_access_key_id=X\naws_secret_access_key=y\n")

    found = resolve_credentials({"AWS_SHARED_CREDENTIALS_FILE": str(elsewhere)})

    assert found is not None
    assert found.access_key == "X"


def test_passwd_file_prefers_the_line_of_the_bucket(tmp_path):
    path = passwd_file(tmp_path, "# comment\n\nALL:s-all\nmine:OWN:s-own\nother:OTHER:s-other\n")

    own = resolve_credentials({}, passwd_file=path, bucket="mine")
    default = resolve_credentials({}, passwd_file=path, bucket="unnamed")

    assert own is not None
    assert (own.access_key, own.secret_key) == ("OWN", "s-own")
    assert default is not None
    assert (default.access_key, default.secret_key) == ("ALL", "s-all")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o700])
def test_passwd_file_that_others_can_read_is_refused(tmp_path, mode):
    path = passwd_file(tmp_path, "KEY:s-secret\n", mode)

    with pytest.raises(MountError, match=f"mode {mode:o}") as raised:
        resolve_credentials({}, passwd_file=path)

    assert raised.value.reason == "passwd_file"
    assert raised.value.hint == f"chmod 600 {path}"
    assert "s-secret" not in str(raised.value)


def test_missing_passwd_file_is_refused(tmp_path):
    with pytest.raises(MountError, match="cannot be read") as raised:
        resolve_credentials({}, passwd_file=tmp_path / "absent")

    assert raised.value.reason == "passwd_file"


def test_passwd_file_without_a_usable_line_is_refused(tmp_path):
    path = passwd_file(tmp_path, "other:KEY:s-secret\nnonsense\n")

    with pytest.raises(MountError, match="no line KEY:SECRET or mine:KEY:SECRET"):
        resolve_credentials({}, passwd_file=path, bucket="mine")


def test_iam_role_asks_the_instance(home):
    assert resolve_credentials({"HOME": str(home)}, iam_role="auto") is None


def test_default_passwd_file_is_the_last_resort(tmp_path):
    passwd_file(tmp_path, "KEY:s-secret\n").rename(tmp_path / ".passwd-s3fs")

    found = resolve_credentials({"HOME": str(tmp_path)})

    assert found is not None
    assert found.access_key == "KEY"


def test_no_credentials_at_all_says_where_to_put_them(tmp_path):
    with pytest.raises(MountError, match="no credentials for bucket `b`") as raised:
        resolve_credentials({"HOME": str(tmp_path)}, bucket="b")

    assert raised.value.reason == "credentials"
    assert "AWS_ACCESS_KEY_ID" in (raised.value.hint or "")


def test_half_a_key_pair_is_an_error():
    with pytest.raises(MountError, match="AWS_SECRET_ACCESS_KEY is not"):
        resolve_credentials({"AWS_ACCESS_KEY_ID": "A"})


def test_damaged_credentials_file_is_not_quoted(tmp_path):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("aws_secret_access_key s-secret\n")

    with pytest.raises(MountError) as raised:
        resolve_credentials({"HOME": str(tmp_path)})

    assert "s-secret" not in str(raised.value) + str(raised.value.__cause__)
    assert raised.value.__suppress_context__


def test_secrets_are_not_shown():
    found = resolve_credentials(
        {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "s-1", "AWS_SESSION_TOKEN": "t-1"}
    )

    assert "s-1" not in repr(found)
    assert "t-1" not in f"{found}"


CASES = {
    "environment": ({"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "s=:/"}, {}),
    "old names": ({"AWSACCESSKEYID": "OLD", "AWSSECRETACCESSKEY": "s"}, {}),
    "default profile": ({}, {}),
    "profile of the environment": ({"AWS_PROFILE": "team one"}, {}),
    "named profile": ({"AWS_ACCESS_KEY_ID": "ENV"}, {"aws_profile": "team one"}),
    "password file": ({"AWS_ACCESS_KEY_ID": "ENV"}, {"passwd_file": "passwd"}),
    "role": ({}, {"iam_role": "auto"}),
}


@pytest.mark.parametrize("case", list(CASES))
def test_the_shell_script_finds_the_same_keys(home, case):
    variables, given = CASES[case]
    if "passwd_file" in given:
        given = {"passwd_file": passwd_file(home, " # no\nALL:s-all\r\nmine:OWN:s/+own\n")}
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin", **variables}
    assigned = "\n".join(
        f"{name}='{given.get(name, '')}'" for name in ("passwd_file", "aws_profile", "iam_role")
    )
    script = f"""
        fail() {{ echo "$3"; exit "$1"; }}
        {assigned}
        . {ROOT}/mount/credentials.sh
        find_credentials mine
        printf '%s\\n' "$key" "$secret" "$token"
    """

    said = subprocess.run(
        ["sh", "-u", "-c", script], env=environ, capture_output=True, text=True, check=True
    )
    found = resolve_credentials(environ, bucket="mine", **given)

    expected = (
        ["", "", ""]
        if found is None
        else [found.access_key, found.secret_key, found.session_token or ""]
    )
    assert said.stdout.split("\n")[:3] == expected
