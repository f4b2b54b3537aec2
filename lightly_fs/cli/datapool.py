"""`lightly-fs datapool`: look into a datapool, go back to a state, bring files in and out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from lightly_fs.cli.buckets import bucket_options
from lightly_fs.cli.console import counted
from lightly_fs.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from lightly_fs.config import S3Config
    from lightly_fs.datapool.pool import Pool
    from lightly_fs.datapool.state import State
    from lightly_fs.types import ModelInfo

FORMATS = ("csv", "parquet", "filenames")
_SHOWN = 10
_STDOUT = "-"


def _states(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the numbers of states; those of a bucket would have to be mounted first."""
    from lightly_fs.datapool.state import STATES, number_of

    folder = Path(str(ctx.params.get("location") or "")) / STATES
    paths = folder.iterdir() if folder.is_dir() else ()
    numbers = sorted({number_of(path.name) for path in paths} - {-1}, reverse=True)
    return [CompletionItem(str(one)) for one in numbers if str(one).startswith(incomplete)]


_location = click.argument("location", type=click.Path())
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
_at = click.option(
    "--state", type=click.IntRange(0), shell_complete=_states, help="Of this state.  [newest]"
)


@click.group()
def datapool() -> None:
    """Look into a datapool, go back to a state, import, export.

    LOCATION is the datapool's folder, mounted or not, or s3://bucket/prefix.
    """


@datapool.command()
@_location
@_at
@click.option("--verify", is_flag=True, help="Make sure that every file is as it was written.")
@_json
@bucket_options
def show(location: str, state: int | None, verify: bool, as_json: bool, s3: S3Config) -> None:
    """Tell what the datapool at LOCATION holds."""
    with _reading(location, s3) as newest:
        pool = newest if state is None else newest.at(state)
        if verify:
            _verify(pool, location)
            intact = f"{counted(len(pool.state.parts), 'file')} of {pool.state.n_bytes:,} bytes"
            click.echo(f"verified: {intact}, each as it was written", err=True)
        if as_json:
            click.echo(json.dumps({"location": pool.uri, **pool.state.as_json()}))
            return
        click.echo("\n".join(f"{title:<12}{text}" for title, text in _facts(pool)))


@datapool.command()
@_location
@_json
@bucket_options
def history(location: str, as_json: bool, s3: S3Config) -> None:
    """List the states of the datapool at LOCATION, the oldest first."""
    with _reading(location, s3) as pool:
        states = pool.store.states()
        if as_json:
            click.echo(json.dumps([_brief(state) for state in states]))
            return
        for state in states:
            mark = "*" if state.number == pool.state.number else " "
            click.echo(f"{mark}{state.number:>4}  {state.created}  {_line(state)}")


@datapool.command()
@_location
@click.argument("first", type=click.IntRange(0), shell_complete=_states)
@click.argument("second", type=click.IntRange(0), required=False, shell_complete=_states)
@_json
@bucket_options
def diff(location: str, first: int, second: int | None, as_json: bool, s3: S3Config) -> None:
    """Tell what changed from state FIRST to state SECOND, or to the newest."""
    from lightly_fs.datapool.difference import difference

    with _reading(location, s3) as pool:
        found = difference(pool.at(first), pool if second is None else pool.at(second))
    if as_json:
        click.echo(json.dumps(found.as_json()))
        return
    for title, names in found.as_json().items():
        click.echo(f"{title:<12}{len(names):,}")
        for name in names[:_SHOWN]:
            click.echo(f"    {name}")
        if len(names) > _SHOWN:
            click.echo(f"    and {len(names) - _SHOWN:,} more; --json names all")


@datapool.command()
@_location
@click.argument("state", type=click.IntRange(0), shell_complete=_states)
@_json
@bucket_options
def rollback(location: str, state: int, as_json: bool, s3: S3Config) -> None:
    """Go back to STATE: a new state with its content; none is deleted."""
    from lightly_fs.datapool import update

    with _writing(location, s3, "rollback") as pool:
        _committed(update.rollback(pool.store, state), as_json=as_json)


@datapool.command()
@_location
@click.option(
    "--drop-history", is_flag=True, help="Delete all earlier states, too: nothing brings them back."
)
@_json
@bucket_options
def reset(location: str, drop_history: bool, as_json: bool, s3: S3Config) -> None:
    """Forget everything: the next run processes all files. `rollback` undoes it."""
    from lightly_fs.datapool import update
    from lightly_fs.datapool.opening import open_store

    with open_store(location, os.environ, s3=s3, owner=_owner("reset")) as store:
        _committed(update.reset(store, keep_history=not drop_history), as_json=as_json)


@datapool.command()
@_location
@click.option(
    "--format", "format_", type=click.Choice(FORMATS), default="csv", help="What to write.  [csv]"
)
@click.option("--out", required=True, metavar="FILE", help="A path or s3://…; `-` is stdout.")
@click.option("--selected", is_flag=True, help="Only what is selected.")
@_at
@bucket_options
def export(
    location: str, format_: str, out: str, selected: bool, state: int | None, s3: S3Config
) -> None:
    """Write the samples of the datapool at LOCATION to a file.

    csv: `filenames,embedding_0,…,selected,labels`; parquet: all that is known of them;
    filenames: one a line.
    """
    from lightly_fs.datapool.exporting import export_pool
    from lightly_fs.datasource.private import private_directory
    from lightly_fs.pipeline.publishing import open_target

    folder, slash, name = out.rpartition("/")
    folder = folder or slash or "."
    if not name or not (out.startswith("s3://") or Path(folder).is_dir()):
        raise ConfigError(f"`{out}` is no file in a folder that is there", hint="--out FILE")
    with _reading(location, s3) as newest, private_directory("export") as staging:
        pool, path = newest if state is None else newest.at(state), staging / "export"
        count = export_pool(pool, path, format_, selected_only=selected)
        if out == _STDOUT:
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    sys.stdout.buffer.write(chunk)
            return
        with open_target(folder, s3, os.environ) as target:
            target.put(name, path)
    click.echo(counted(count, "sample"), err=True)
    click.echo(out)


@datapool.command("import")
@_location
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="config/model.json of a run with the model that made these embeddings.",
)
@click.option(
    "--images", is_flag=True, help="Names like v-007-mp4.png are of images, not frames of v.mp4."
)
@_json
@bucket_options
def import_(
    location: str, path: Path, model: Path | None, images: bool, as_json: bool, s3: S3Config
) -> None:
    """Add the embeddings in PATH: a CSV file, or a folder with datapool_latest.csv and history/.

    Their files are known by name from then on. Without a column `selected`, all are selected.
    A column `video` names the videos of frames; without one, frames are known by their names.
    """
    from lightly_fs.datapool.importing import import_embeddings

    made_by = None if model is None else _model(model)
    with _writing(location, s3, "import", create=True) as pool:
        made = import_embeddings(pool, path, made_by, images=images)
        after = made[-1] if made else pool
        _committed(after, as_json=as_json)
        if after.state.dimensions and after.state.model is None:
            click.echo(
                "warning: nobody said what made these embeddings, so no run adds to them until "
                "datasource.process_all=True embeds everything again; to say it, "
                f"`lightly-fs datapool reset {location}` and import again with "
                "--model RUN_DIR/config/model.json",
                err=True,
            )


def _verify(pool: Pool, location: str) -> None:
    broken = pool.store.first_broken(pool.state)
    if broken is not None:
        raise ArtifactError(
            f"{pool.uri}/{broken} is gone or damaged",
            hint=f"lightly-fs datapool history {location} lists the states, and "
            f"`datapool rollback {location} STATE` goes back to one",
        )
    gone = pool.store.gone()
    if gone:
        raise ArtifactError(
            f"state {gone[0]} of {pool.uri} is gone, its parts are there, and state "
            f"{pool.state.number} counts",
            hint="put states/ back from a copy of the datapool",
        )
    torn = pool.store.torn()
    if torn:
        raise ArtifactError(
            f"{pool.uri}/{torn[0]} is not as it was written, and state {pool.state.number} counts",
            hint="put it back from a copy; if an update was killed, the next run makes up for it",
        )


def _model(path: Path) -> ModelInfo:
    from lightly_fs.types import ModelInfo

    try:
        return ModelInfo(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} describes no model: {error}", hint="--model RUN_DIR/config/model.json"
        ) from error


@contextmanager
def _reading(location: str, s3: S3Config) -> Iterator[Pool]:
    from lightly_fs.datapool.opening import read_pool

    with read_pool(location, os.environ, s3=s3) as pool:
        yield pool


@contextmanager
def _writing(location: str, s3: S3Config, what: str, *, create: bool = False) -> Iterator[Pool]:
    from lightly_fs.datapool.opening import open_pool

    with open_pool(location, os.environ, s3=s3, owner=_owner(what), create=create) as pool:
        yield pool


def _owner(what: str) -> str:
    return f"lightly-fs datapool {what}"


def _committed(pool: Pool, *, as_json: bool) -> None:
    state = pool.state
    if as_json:
        click.echo(json.dumps({"location": pool.uri, **_brief(state)}))
        return
    click.echo(f"state {state.number}: {_line(state)}")


def _brief(state: State) -> dict[str, Any]:
    """Return a state without its parts."""
    return {
        name: value for name, value in state.as_json().items() if name not in ("samples", "files")
    }


def _line(state: State) -> str:
    counts, what = state.counts, str(state.kind)
    if state.restored is not None:
        what += f" to {state.restored}"
    if state.run_id:
        what += f" by run {state.run_id}"
    return (
        f"{counted(counts.files, 'file')}, {counted(counts.samples, 'sample')}, "
        f"{counts.selected:,} selected  ({what})"
    )


def _facts(pool: Pool) -> Iterator[tuple[str, str]]:
    state, counts = pool.state, pool.state.counts
    yield "location", pool.uri
    yield "state", f"{state.number} of {state.created}, {_origin(state)}"
    model = "none yet" if not state.dimensions else "unknown (imported)"
    if state.model is not None:
        model = f"{state.model.name}, weights {state.model.weights_sha256[:12]}"
    yield "model", f"{model}, {state.dimensions} dimensions"
    yield (
        "files",
        (
            f"{counts.files:,} ({counts.corrupt:,} corrupt, {counts.unfinished:,} unfinished, "
            f"{counts.deleted:,} deleted at the last run)"
        ),
    )
    yield "samples", f"{counts.samples:,} ({counts.duplicate:,} duplicates)"
    yield "selected", f"{counts.selected:,}"
    yield (
        "added",
        (
            f"{counted(counts.added_files, 'new file')}, {counts.changed_files:,} changed; "
            f"{counted(counts.added_samples, 'sample')}, {counts.added_selected:,} selected"
        ),
    )
    yield "size", f"{state.n_bytes / 1e6:,.1f} MB in {counted(len(state.parts), 'file')}"


def _origin(state: State) -> str:
    if state.restored is not None:
        return f"a rollback to state {state.restored}"
    by = f" by run {state.run_id}" if state.run_id else ""
    return f"{state.kind}{by}"
