"""Verified writes on plain directories; on s3fs: `tests/integration/test_output_mount.py`."""

import os
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from lightly_fs.config import RunConfig
from lightly_fs.datasource.output import Output, describe, open_output
from lightly_fs.errors import ArtifactError, DatasourceError, MountError

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may mount")


@contextmanager
def tmpfs(directory, options="rw"):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "t", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=False, capture_output=True)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def output(root):
    made = Output(root, None)
    yield made
    made.close()


@pytest.fixture
def local(tmp_path):
    path = tmp_path / "local"
    path.write_bytes(b"content")
    return path


def files_below(directory):
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


def test_put_writes_the_file_with_its_folders_and_tells_what_it_wrote(output, root, local):
    written = output.put("2026-11-21/14:03:22/data/x.bin", local)

    assert (root / "2026-11-21/14:03:22/data/x.bin").read_bytes() == b"content"
    assert (written.name, written.size) == ("2026-11-21/14:03:22/data/x.bin", 7)
    assert written == describe(local, written.name)
    assert files_below(root) == ["2026-11-21/14:03:22/data/x.bin"]


def test_the_same_content_is_not_written_again(output, root, local):
    output.put("x", local)
    before = (root / "x").stat()

    output.put("x", local)

    assert (root / "x").stat().st_ino == before.st_ino


def test_other_content_is_replaced_whole(output, root, local):
    (root / "x").write_bytes(b"something longer than that")

    output.put("x", local)

    assert (root / "x").read_bytes() == b"content"


def test_an_empty_file_is_written(output, root, tmp_path):
    (tmp_path / "empty").touch()

    assert output.put("x", tmp_path / "empty").size == 0
    assert (root / "x").read_bytes() == b""


def test_names_read_and_delete_see_what_was_put(output, local):
    output.put("run/parts/b", local)
    output.put("run/parts/a", local)
    below = output.below("run")

    assert below.names("parts") == ["a", "b"]
    assert below.read("parts/a") == b"content"
    below.delete("parts/a")
    below.delete("parts/a")
    assert output.names() == ["run/parts/b"]
    assert below.read("parts/a") is None
    assert below.names("nothing here") == []


def test_a_deleted_folder_is_gone_and_can_be_written_again(output, root, local):
    output.put("parts/a", local)
    (root / "parts/.lightly-fs-0123456789abcdef.tmp").write_text("left by a killed write")

    output.delete_folder("parts")

    assert not (root / "parts").exists()
    output.put("parts/b", local)
    assert output.names("parts") == ["b"]
    output.delete_folder("never made")
    (root / "parts/somebody's").mkdir()
    output.delete_folder("parts")
    assert (root / "parts/somebody's").is_dir()


@pytest.mark.parametrize(
    ("made", "act"),
    [
        ("run/data", lambda output, local: output.put("run/data/deep/x", local)),
        ("run/data", lambda output, _: output.read("run/data/x")),
        ("run/data", lambda output, _: output.delete("run/data/x")),
        ("run", lambda output, _: output.names("run/data")),
        ("run/parts", lambda output, _: output.delete_folder("run/parts")),
        ("run", lambda output, local: output.first_broken([describe(local, "run/data/x")])),
    ],
)
def test_a_file_where_a_folder_belongs_is_named(output, root, local, made, act):
    (root / made).parent.mkdir(exist_ok=True)
    (root / made).write_bytes(b"in the way")

    with pytest.raises(ArtifactError) as raised:
        act(output, local)

    assert raised.value.message == f"`{root / made}` is a file where a folder belongs"
    assert "move it away" in (raised.value.hint or "")
    assert (root / made).read_bytes() == b"in the way"


def test_a_folder_where_a_file_belongs_is_named(output, root, local):
    (root / "run/report.pdf/x").mkdir(parents=True)

    for act in (output.read, lambda name: output.put(name, local)):
        with pytest.raises(ArtifactError, match=r"report\.pdf` is a folder where a file belongs"):
            act("run/report.pdf")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x"])
def test_a_name_that_leads_out_of_the_output_is_refused(output, local, name):
    with pytest.raises(ArtifactError, match="no name below"):
        output.put(name, local)


def test_first_broken_names_what_is_not_as_it_was_written(output, root, local):
    entries = [output.put(name, local) for name in "abc"]
    assert output.first_broken(entries) is None

    (root / "b").write_bytes(b"CONTENT")
    assert output.first_broken(entries) == "b"
    (root / "a").unlink()
    assert output.first_broken(entries) == "a"


def test_a_directory_that_was_replaced_by_another_is_not_written(output, root, local):
    root.rename(root.with_name("elsewhere"))
    root.mkdir()

    with pytest.raises(DatasourceError, match="no longer the directory"):
        output.put("x", local)

    assert files_below(root) == []


@as_root
def test_a_full_disk_is_named_and_keeps_what_was_there(tmp_path):
    disk, small, large = tmp_path / "disk", tmp_path / "small", tmp_path / "large"
    disk.mkdir()
    small.write_bytes(b"old")
    large.write_bytes(os.urandom(2_000_000))
    with tmpfs(disk, "size=1m"):
        output = Output(disk, None)
        output.put("x", small)

        with pytest.raises(ArtifactError, match=r"disk/x.*No space left on device"):
            output.put("x", large)

        assert files_below(disk) == ["x"]
        assert (disk / "x").read_bytes() == b"old"
        output.put("y", small)
        output.close()


@as_root
def test_a_vanished_mount_is_not_written_and_nor_is_the_directory_below_it(tmp_path, local):
    disk = tmp_path / "disk"
    disk.mkdir()
    with tmpfs(disk):
        output = Output(disk, None)

    with pytest.raises(DatasourceError, match="no longer the directory"):
        output.put("x", local)

    # The check and the write are two steps, and a mount may vanish in between.
    output.anchor.replace(output.path("x"), local)

    assert output.anchor.read(output.path("x")) == b"content"
    assert files_below(disk) == []
    output.close()


@as_root
def test_a_read_only_output_is_refused_with_a_hint(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    with (
        tmpfs(disk, "ro"),
        pytest.raises(DatasourceError, match="disk` is read-only") as caught,
        open_output(RunConfig(output_dir=str(disk)), {}),
    ):
        pass

    assert caught.value.hint.endswith(f"{disk} --profile output")


@as_root
def test_an_output_that_this_user_may_not_write_is_refused_with_a_hint():
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        read, write = os.pipe()
        if (child := os.fork()) == 0:  # root may write anywhere: ask as nobody
            try:
                os.setuid(65534)
                with open_output(RunConfig(output_dir=directory), {}):
                    os.write(write, b"opened")
            except DatasourceError as error:
                os.write(write, f"{error.message}: {error.hint}".encode())
            finally:
                os._exit(0)
        os.close(write)
        os.waitpid(child, 0)
        with os.fdopen(read) as pipe:
            assert "may not be written by uid 65534: change its owner" in pipe.read()


def test_a_missing_output_directory_is_created_when_its_parent_exists(tmp_path):
    with open_output(RunConfig(output_dir=str(tmp_path / "new")), {}) as output:
        assert output.root.is_dir()
        assert output.location == tmp_path / "new"

    with (
        pytest.raises(DatasourceError, match="cannot be created"),
        open_output(RunConfig(output_dir=str(tmp_path / "no/such/parent")), {}),
    ):
        pass


def test_an_output_that_our_record_says_is_a_mount_is_not_written_bare(tmp_path):
    directory, state = tmp_path / "output", tmp_path / "state" / "one"
    directory.mkdir()
    state.mkdir(parents=True)
    (state / "record").write_text(f"directory={directory}\nbucket=results\n")

    with (
        pytest.raises(MountError, match="nothing is mounted there now"),
        open_output(
            RunConfig(output_dir=str(directory)), {"LIGHTLY_FS_STATE_DIR": str(tmp_path / "state")}
        ),
    ):
        pass


def test_many_threads_write_below_the_same_new_folders(output, local):
    names = [f"a/b/{number % 3}/{number}" for number in range(60)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: output.put(name, local), names))

    assert output.names() == sorted(names)


def test_a_killed_write_leaves_the_old_file_or_the_new_one(root, tmp_path):
    old, new = b"old", os.urandom(30_000_000)
    source = tmp_path / "new"
    source.write_bytes(new)
    states = set()
    for delay in (0.02, 0.04, 0.06, 0.08, 0.1):
        (root / "x").write_bytes(old)
        if (child := os.fork()) == 0:
            Output(root, None).put("x", source)
            time.sleep(60)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

        states.add((root / "x").read_bytes())
        output = Output(root, None)
        assert output.names() == ["x"]
        output.put("x", source)
        assert files_below(root) == ["x"]
        output.close()

    assert states <= {old, new}
