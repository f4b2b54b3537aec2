"""`lightly-fs datapool` as a person or a program meets it."""

import json
import re

import pytest
from click.shell_completion import ShellComplete

from lightly_fs.cli import cli
from lightly_fs.datapool.opening import open_pool
from lightly_fs.datapool.update import update
from tests.unit.cli.command import lightly_fs
from tests.unit.datapool.made import MODEL
from tests.unit.datapool.scenario import first_run, second_run


@pytest.fixture
def pool(tmp_path):
    """A datapool in two states."""
    place = tmp_path / "pool"
    with open_pool(str(place), {}, owner="test") as begun:
        first = update(begun, first_run(begun))
        update(first, second_run(first))
    return place


def as_json(*words):
    done = lightly_fs("datapool", *map(str, words), "--json")
    return done.returncode, json.loads(done.stdout)


def test_show_tells_what_it_holds(pool):
    done = lightly_fs("datapool", "show", str(pool), "--verify")

    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"verified: 4 files of [\d,]+ bytes, each as it was written\n", done.stderr)
    facts = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert facts["location"] == str(pool)
    assert facts["model"] == "bundled, weights 00ff, 4 dimensions"
    assert facts["files"] == "5 (1 corrupt, 0 unfinished, 1 deleted at the last run)"
    assert facts["selected"] == "4"
    assert facts["state"].endswith("update by run second")
    code, first = as_json("show", pool, "--state", 1)
    assert (code, first["number"], first["counts"]["files"]) == (0, 1, 4)


def test_a_damaged_file_is_found_when_it_is_looked_for(pool):
    (path,) = pool.glob("samples/000002-*")
    path.write_bytes(b"")

    assert lightly_fs("datapool", "show", str(pool)).returncode == 0
    code, error = as_json("show", pool, "--verify")

    assert code == 6
    assert error["message"] == f"{pool}/samples/{path.name} is gone or damaged"
    assert f"datapool history {pool}" in error["hint"]


def test_torn_states_are_named_and_reset_goes_on(pool):
    for number, code in ((2, 0), (1, 6)):
        (path,) = pool.glob(f"states/{number:06d}-*")
        path.write_bytes(path.read_bytes()[:-1])

        done = lightly_fs("datapool", "show", str(pool))
        assert done.returncode == code, done.stderr
        found, error = as_json("show", pool, "--verify")
        assert found == 6
        assert "states/000002-" in error["message"]
    assert f"lightly-fs datapool reset {pool}" in error["hint"]
    assert as_json("rollback", pool, 1)[0] == 6

    code, state = as_json("reset", pool)

    assert (code, state["number"], state["parent"]) == (0, 3, None)
    assert as_json("show", pool, "--verify")[0] == 0


def test_back_and_forth(pool):
    _, difference = as_json("diff", pool, 1)
    assert difference["added"] == ["d.jpg", "v-2-mp4.png"]
    assert as_json("rollback", pool, 1)[1]["restored"] == 1
    assert not any(as_json("diff", pool, 1, 3)[1].values())
    assert as_json("reset", pool)[1]["counts"]["files"] == 0

    done = lightly_fs("datapool", "history", str(pool))

    lines = done.stdout.splitlines()
    assert [line[:5].replace(" ", "") for line in lines] == ["1", "2", "3", "*4"]
    assert lines[2].endswith("4 files, 5 samples, 3 selected  (rollback to 1)")
    _, states = as_json("history", pool)
    assert [state["kind"] for state in states] == ["update", "update", "rollback", "reset"]
    assert as_json("reset", pool, "--drop-history")[0] == 0
    assert [state["number"] for state in as_json("history", pool)[1]] == [5]


def test_out_and_in_again(pool, tmp_path):
    out, model = tmp_path / "out.csv", tmp_path / "model.json"
    model.write_text(json.dumps({name: getattr(MODEL, name) for name in MODEL.__slots__}))

    done = lightly_fs("datapool", "export", str(pool), "--out", str(out))
    assert (done.stdout, done.stderr) == (f"{out}\n", "6 samples\n")
    printed = lightly_fs("datapool", "export", str(pool), "--out", "-")
    assert printed.stdout == out.read_text()
    code, state = as_json("import", tmp_path / "other", out, "--model", model)

    assert (code, state["counts"]["samples"], state["counts"]["selected"]) == (0, 6, 4)
    names = lightly_fs(
        *("datapool", "export", str(tmp_path / "other"), "--out", "-", "--selected"),
        *("--format", "filenames"),
    )
    assert names.stdout == "a.jpg\nc.jpg\nd.jpg\nv-2-mp4.png\n"


def test_an_import_without_a_model_says_what_follows(pool, tmp_path):
    out, model, place = tmp_path / "out.csv", tmp_path / "model.json", str(tmp_path / "other")
    model.write_text(json.dumps({name: getattr(MODEL, name) for name in MODEL.__slots__}))
    lightly_fs("datapool", "export", str(pool), "--out", str(out))

    said = lightly_fs("datapool", "import", place, str(out))
    assert (said.returncode, said.stdout.startswith("state 1: ")) == (0, True)
    assert "no run adds to them until datasource.process_all=True" in said.stderr
    assert f"`lightly-fs datapool reset {place}` and import again with --model" in said.stderr

    assert lightly_fs("datapool", "reset", place).returncode == 0
    again = lightly_fs("datapool", "import", place, str(out), "--model", str(model))
    assert (again.returncode, again.stderr) == (0, "")
    assert as_json("show", place)[1]["model"]["name"] == MODEL.name


@pytest.mark.parametrize(("words", "video"), [((), "v.mp4"), (("--images",), "")])
def test_whether_names_are_of_frames_may_be_said(tmp_path, words, video):
    path, place = tmp_path / "x.csv", str(tmp_path / "pool")
    path.write_text("filenames,embedding_0\nv-1-mp4.png,1\n")

    assert as_json("import", place, path, *words)[0] == 0

    rows = lightly_fs("datapool", "export", place, "--out", "-").stdout
    assert rows == f"filenames,embedding_0,selected,labels,video\nv-1-mp4.png,1,1,0,{video}\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("show", "{none}"), 4, "there is no datapool at"),
        (("reset", "{none}"), 4, "there is no datapool at"),
        (("rollback", "{pool}", "9"), 6, "has no state 9; there is 1, 2"),
        (("diff", "{pool}", "9"), 6, "has no state 9"),
        (("export", "{pool}", "--out", "{none}/x.csv"), 2, "is no file in a folder that is there"),
        (("import", "{pool}", "{pool}"), 6, "holds no datapool_latest.csv"),
    ],
)
def test_mistakes_are_named_with_what_to_do(pool, tmp_path, words, code, message):
    places = {"pool": pool, "none": tmp_path / "none"}

    done = lightly_fs("datapool", *(word.format(**places) for word in words))

    assert done.returncode == code
    assert message in done.stderr
    assert "hint:" in done.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", ["rollback", "diff"])
def test_numbers_of_states_are_completed(pool, command):
    completion = ShellComplete(cli, {}, "lightly-fs", "_LIGHTLY_FS_COMPLETE")

    found = completion.get_completions(["datapool", command, str(pool)], "")

    assert [one.value for one in found] == ["2", "1"]
