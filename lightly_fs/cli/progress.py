"""Progress of a run on stderr: bars with rate and ETA on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

import click

from lightly_fs.cli.console import counted
from lightly_fs.types import Stage

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PLAIN_EVERY_S = 30.0
"""How often a log gets a line about a stage that is still going on."""

SOON_S = 5.0
"""When it gets the first about a model that is being loaded: a network may be slow or gone."""


_WITH_RATE = (Stage.LIST, Stage.TRAIN, Stage.EMBED, Stage.PRETAG)


class StageLines(AbstractContextManager["StageLines"]):
    """A line a stage: done of total, rate, note, elapsed; a live bar when stderr is a terminal."""

    def __init__(self, *, quiet: bool = False, plain: bool | None = None) -> None:
        self._quiet = quiet
        self._plain = not (sys.stderr and sys.stderr.isatty()) if plain is None else plain
        self._live: RichProgress | None = None
        self._tasks: dict[Stage, TaskID] = {}
        self._stage: Stage | None = None
        self._started = 0.0
        self._spoke = 0.0
        self._silence_s = PLAIN_EVERY_S
        self._last: tuple[int, int | None, str] = (0, None, "")

    def __enter__(self) -> StageLines:
        if not self._quiet and not self._plain:
            self._live = _live_display()
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish()
        if self._live is not None:
            self._live.stop()

    def __call__(self, stage: Stage, done: int, total: int | None, note: str = "") -> None:
        """Take one report of a stage; a new stage ends the one before."""
        if self._quiet:
            return
        if stage != self._stage:
            self._finish()
            self._stage, self._started, self._spoke = stage, time.monotonic(), time.monotonic()
            self._silence_s = SOON_S if stage is Stage.MODEL else PLAIN_EVERY_S
        self._last = (done, total, note)
        if self._live is not None:
            self._draw(self._live)
        elif time.monotonic() - self._spoke > self._silence_s:
            self._spoke, self._silence_s = time.monotonic(), PLAIN_EVERY_S
            click.echo(self._line(), err=True)

    def _draw(self, live: RichProgress) -> None:
        if self._stage is None:
            return
        done, total, note = self._last
        shown = self._counted(done, total)
        task = self._tasks.get(self._stage)
        if task is None:
            name = self._stage.value
            self._tasks[self._stage] = live.add_task(name, total=total, note=note, counted=shown)
        else:
            live.update(task, completed=done, total=total, note=note, counted=shown)

    def _finish(self) -> None:
        if self._stage is None:
            return
        if self._live is not None:
            task = self._tasks.get(self._stage)
            if task is not None:
                self._live.remove_task(task)
                del self._tasks[self._stage]
            self._live.console.print(self._line(), highlight=False, markup=False, soft_wrap=True)
        else:
            click.echo(self._line(), err=True)
        self._stage = None

    def _counted(self, done: int, total: int | None) -> str:
        if total is None or done == total:
            return counted(done, self._noun()) if done else ""
        return f"{done:,} of {total:,}"

    def _noun(self) -> str:
        if self._stage is Stage.CROPS:
            return "crop"
        return "sample" if "video" in self._last[2] else "image"

    def _line(self) -> str:
        done, total, note = self._last
        seconds = time.monotonic() - self._started
        stage = self._stage.value if self._stage else ""
        parts = [self._counted(done, total)] if done or total else []
        if (
            self._stage in (Stage.LIST, Stage.TRAIN, Stage.EMBED, Stage.PRETAG)
            and seconds > 0.5
            and done
        ):
            parts.append(f"{done / seconds:,.0f} img/s")
        if note:
            parts.append(note)
        parts.append(_clock(seconds))
        return f"{stage:<8} " + "   ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _live_display() -> RichProgress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description:<8}"),
        TextColumn("{task.fields[counted]}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(show_speed=True),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=8,
    )
