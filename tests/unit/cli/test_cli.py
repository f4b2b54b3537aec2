"""What a person or a program sees of the command line: output, errors, exit codes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightly_fs.cli import COMMANDS
from lightly_fs.cli.console import counted
from tests.unit.cli.command import QUICK, lightly_fs


@pytest.fixture(scope="module")
def output(images, tmp_path_factory):
    """The output directory of one run, and what the command printed."""
    directory = tmp_path_factory.mktemp("cli-out")
    done = lightly_fs(
        *("run", f"input_dir={images}", f"output_dir={directory}", "run_directory=r"),
        *("stopping_condition.n_samples=3", *QUICK),
    )
    return directory, done


def test_stdout_is_the_report_and_stderr_is_for_people(output):
    directory, done = output

    assert done.returncode == 0
    assert done.stdout == f"{directory}/r/report.pdf\n"
    # Of a stage that takes long there is more than one line.
    said = dict.fromkeys(line.split()[0] for line in done.stderr.splitlines())
    assert list(said) == ["list", "model", "embed", "select", "report"]
    assert "3 corrupt" in done.stderr


def test_flags_are_words_and_json_is_for_programs(images, output):
    directory, _ = output

    done = lightly_fs(
        *("run", "--json", "--input", str(images), "--output", str(directory)),
        *("--run-directory", "r", "--n-samples", "3", *QUICK),
    )
    result = json.loads(done.stdout)

    assert result["was_complete"] is True
    assert result["counts"]["selected"] == 3
    assert result["run_directory"] == f"{directory}/r"


def test_the_select_stage_prints_filenames(images, tmp_path):
    done = lightly_fs(
        *("select", f"input_dir={images}", f"output_dir={tmp_path}", "--n-samples", "2", *QUICK)
    )

    assert [(images / name).is_file() for name in done.stdout.splitlines()] == [True, True]


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (("run", "n_samples=3"), 2, "unknown key `n_samples`", "stopping_condition.n_samples"),
        (("run", "datasource.dataset_id=x"), 2, "needs the platform", "leave"),
        (
            ("run", "input_dir=/does/not/exist", "output_dir=/tmp"),
            4,
            "/does/not/exist",
            "input_dir",
        ),
        (("run", "--config", "/does/not/exist.yaml"), 2, "/does/not/exist.yaml", ""),
        (("unmount", "/"), 3, "`/`", "lightly-fs mounts"),
    ],
)
def test_errors_name_the_thing_and_the_fix(words, code, message, hint):
    done = lightly_fs(*words)

    assert (code, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_for_a_program_is_json_on_stdout():
    done = lightly_fs("run", "--json", "method=kmeans")
    error = json.loads(done.stdout)

    assert (2, "ConfigError", 2) == (done.returncode, error["error"], error["exit_code"])
    assert "coreset" in error["hint"]


def test_a_missing_model_names_weights_and_the_bundled_model(images, tmp_path):
    done = lightly_fs(
        *(
            "run",
            f"input_dir={images}",
            f"output_dir={tmp_path}",
            "model=resnet81",
            "run_directory=r",
        )
    )

    assert done.returncode == 8
    assert "resnet81" in done.stderr
    assert not (tmp_path / "r" / "manifest.json").exists()


def test_a_dry_run_estimates_and_writes_nothing(images, tmp_path):
    done = lightly_fs("run", "--dry-run", "--json", f"input_dir={images}", f"output_dir={tmp_path}")
    estimate = json.loads(done.stdout)

    assert done.returncode == 0
    assert estimate["objects"] == 29
    assert estimate["bytes"] == sum(
        path.stat().st_size
        for path in images.rglob("*")
        if path.is_file() and path.suffix != ".txt"
    )
    assert list(tmp_path.iterdir()) == []


def test_every_key_is_listed_with_its_default_and_meaning():
    lines = lightly_fs("run", "--help-keys").stdout.splitlines()

    assert any(
        line.startswith("stopping_condition.n_samples") and "fraction" in line for line in lines
    )
    assert any(line.startswith("model ") and "bundled" in line for line in lines)
    meaning = lines[0].index("Mounted directory")
    assert {line[meaning - 2 : meaning] for line in lines} == {"  "}
    assert all(line[meaning] != " " for line in lines)


def test_every_command_has_a_summary_that_fits():
    text = lightly_fs("--help", COLUMNS="80").stdout
    listed = text.partition("Commands:\n")[2].splitlines()

    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert "..." not in text.partition("Options:")[2]


@pytest.mark.parametrize("words", [("sanity-check",), ("run", "sanity_check=True")])
def test_the_sanity_check_congratulates(words):
    done = lightly_fs(*words)

    assert done.returncode == 0, done.stdout
    assert "Congratulations! It looks like" in done.stdout
    assert re.search(r"bundled model +resnet, .*, version \d+ of its weights, ", done.stdout)


def test_the_sanity_check_says_what_is_wrong_with_an_input():
    done = lightly_fs("sanity-check", "--input", "/does/not/exist", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}

    assert done.returncode == 1
    assert checks["input"]["ok"] is False
    assert "/does/not/exist" in checks["input"]["found"]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 images"), (1, "1 image"), (1234, "1,234 images")]
)
def test_one_is_no_plural(number, text):
    assert counted(number, "image") == text


def test_keys_and_values_are_completed():
    def complete(word: str) -> list[str]:
        done = lightly_fs(
            _LIGHTLY_FS_COMPLETE="bash_complete",
            COMP_WORDS=f"lightly-fs run {word}",
            COMP_CWORD="2",
        )
        return [line.split(",")[-1] for line in done.stdout.splitlines()]

    assert complete("stopping_c") == [
        "stopping_condition.min_distance=",
        "stopping_condition.n_samples=",
    ]
    assert complete("method=") == ["method=coreset", "method=random"]


def test_the_completion_script_is_printed():
    assert "_LIGHTLY_FS_COMPLETE=bash_complete" in lightly_fs("completion", "bash").stdout


def test_a_terminal_gets_bars_and_ends_with_the_same_lines(images, tmp_path):
    words = ("run", f"input_dir={images}", f"output_dir={tmp_path}", "run_directory=r", *QUICK)
    command = [sys.executable, "-m", "lightly_fs", *words, "stopping_condition.n_samples=3"]
    main, child = os.openpty()
    process = subprocess.Popen(
        command, stdout=child, stderr=child, env={**os.environ, "TERM": "xterm"}
    )
    os.close(child)
    shown = b""
    while True:
        try:
            shown += os.read(main, 65536)
        except OSError:  # the program has closed the terminal
            break
    os.close(main)

    assert process.wait(60) == 0, shown.decode()
    assert b"ETA" in shown
    assert re.search(rb"embed    29 images .*3 corrupt   0:\d\d", shown)
    assert re.search(rb"select   3 of 24   \(2 duplicates\)   0:\d\d", shown)
    assert re.search(rb"report   0:\d\d\r\n.*/r/report.pdf", shown)


@pytest.mark.parametrize(
    "words", [("run", "--bogus"), ("bogus",), ("run", "bogus"), ("run", "a=1")]
)
def test_every_mistake_is_one_object_for_a_program(words):
    done = lightly_fs(*words, "--json")
    assert (done.returncode, json.loads(done.stdout)["exit_code"]) == (2, 2)


def test_an_empty_flag_is_a_mistake_and_no_default():
    done = lightly_fs("run", "--n-samples", "")
    assert done.returncode == 2
    assert "stopping_condition.n_samples" in done.stderr


def test_what_nobody_expected_ends_without_a_traceback():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lightly_fs", "run", "--help-keys"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: OSError: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [("run", "--help-keys"), ("--version",), ("run", "a=1")])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_has_gone_ends_it_like_sigpipe(words, stream):
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer}
    done = subprocess.run([sys.executable, "-m", "lightly_fs", *words], **streams, check=False)
    os.close(writer)

    says_nothing = (stream == "stdout") == ("a=1" in words)
    assert done.returncode == ((2 if "a=1" in words else 0) if says_nothing else 141)
    assert b"Traceback" not in (done.stderr or b"") + (done.stdout or b"")
    assert not (done.stderr and not says_nothing)


@pytest.mark.parametrize("name", ["config", "data", "parts"])
def test_a_file_where_a_folder_of_the_run_belongs_is_named(images, tmp_path, name):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / name).touch()
    where = (f"input_dir={images}", f"output_dir={tmp_path}", "run_directory=r")
    done = lightly_fs("run", *where, *QUICK, "--json")
    error = json.loads(done.stdout)

    assert (done.returncode, error["error"]) == (6, "ArtifactError")
    assert error["message"] == f"`{tmp_path}/r/{name}` is a file where a folder belongs"
    assert "move it away" in error["hint"]


def test_list_freezes_no_model_that_does_not_exist(images, tmp_path):
    where = (f"input_dir={images}", f"output_dir={tmp_path}", "run_directory=r")
    wrong = lightly_fs("list", *where, "model=resnet81")
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    right = lightly_fs("list", *where, *QUICK)

    assert (wrong.returncode, left, right.returncode) == (8, [], 0)
    assert "there is no model `resnet81`" in wrong.stderr
    assert "did you mean resnet18" in wrong.stderr


def test_a_mistake_in_the_model_leaves_the_run_directory_free(images, tmp_path):
    where = (f"input_dir={images}", f"output_dir={tmp_path}", "run_directory=r", "--n-samples=1")
    wrong = lightly_fs("select", *where, *QUICK, "device=cuda:99")
    right = lightly_fs("select", *where, *QUICK)
    assert (wrong.returncode, right.returncode) == (8, 0)
