"""Kill a run in the middle of a long video, and go on: what is read again, and is it the same?

    python scripts/bench_video_resume.py [--frames 30000] [--ways directory object] [--keep DIR]

A film of 320x180 with a keyframe every 250 frames, 25 frames a second. A run is killed (SIGKILL)
when half of its frames are committed; `lightly-fs embed` goes on, and `lightly-fs run` finishes.
Bytes are those that the S3 server (moto, in this process) sent. One JSON line per way; ends with 1
where `data/embeddings.parquet` is not byte by byte that of a run that was not killed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.counting_s3 import CountingS3, counting_s3
from tests.films import Film, shoot

FILM = Film(
    options={"preset": "ultrafast"}, frames=30_000, gop=250, size=(320, 180), bit_rate=700_000
)
NAME = "long.mp4"


@dataclass(frozen=True)
class Bench:
    """One input, and where its runs go.

    Attributes:
        source: `input_dir` of the runs.
        size: Bytes of the video.
        words: More of the configuration.
        s3: The server, where the video is in a bucket.
    """

    source: str
    size: int
    output: Path
    words: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    s3: CountingS3 | None = None

    def start(self, command: str, run: str) -> subprocess.Popen[bytes]:
        """Start a command on the run directory `run`."""
        words = [sys.executable, "-m", "lightly_fs", command, f"input_dir={self.source}"]
        words += [f"output_dir={self.output}", f"run_directory={run}", *self.words]
        words += ["stopping_condition.n_samples=20"]
        with (self.output / f"{run}.log").open("ab") as log:
            return subprocess.Popen(
                words,
                env={**os.environ, **self.environ},
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=Path(__file__).resolve().parent.parent,
            )

    def run(self, command: str, run: str) -> None:
        """Run a command to its end.

        Raises:
            RuntimeError: It failed.
        """
        if self.start(command, run).wait():
            raise RuntimeError((self.output / f"{run}.log").read_text()[-2000:])

    def sent(self) -> int | None:
        """Return the bytes of the video that were sent since this was asked last."""
        if self.s3 is None:
            return None
        keys = [key for key in self.s3.sent if key.endswith(NAME)]
        return sum(self.s3.sent.pop(key).bytes for key in keys)

    def committed(self, run: str) -> int:
        """Return how many frames a run that is not finished has committed."""
        pieces = (self.output / run / "parts").glob("embed-*.parquet")
        return sum(map(_rows, pieces))

    def embeddings(self, run: str) -> bytes:
        return (self.output / run / "data/embeddings.parquet").read_bytes()


def _rows(piece: Path) -> int:
    try:
        return int(pq.read_metadata(piece).num_rows)
    except (pa.ArrowInvalid, FileNotFoundError):  # it is being written
        return 0


@dataclass(frozen=True)
class Resumed:
    """What going on cost.

    Attributes:
        frames: Of the whole video.
        committed: Frames that were committed when the run was killed.
        whole_bytes: Sent to the run that was not killed, the report's pictures included; None
            where nobody counted.
        resumed_bytes: Sent to the embed stage that went on.
        same: The embeddings are the same, byte by byte.
    """

    frames: int
    committed: int
    whole_bytes: int | None
    resumed_bytes: int | None
    same: bool


def kill_and_resume(bench: Bench) -> Resumed:
    """Embed a video at once, and in two processes of which the first is killed."""
    bench.run("run", "whole")
    whole_bytes = bench.sent()
    counts = json.loads((bench.output / "whole/manifest.json").read_text())["counts"]
    process = bench.start("run", "killed")
    deadline = time.monotonic() + 600
    while bench.committed("killed") < counts["frames"] // 2:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the run ended before it could be killed")
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    committed = bench.committed("killed")
    bench.sent()
    bench.run("embed", "killed")
    resumed_bytes = bench.sent()
    bench.run("run", "killed")
    same = bench.embeddings("whole") == bench.embeddings("killed")
    return Resumed(counts["frames"], committed, whole_bytes, resumed_bytes, same)


@contextmanager
def on(way: str, film: Path, scratch: Path, words: Sequence[str] = ()) -> Iterator[Bench]:
    """Offer a film in a folder (`directory`) or in a bucket that is read directly (`object`)."""
    output = scratch / f"out-{way}"
    output.mkdir()
    size = film.stat().st_size
    if way == "directory":
        folder = scratch / "in"
        folder.mkdir()
        (folder / NAME).hardlink_to(film)
        yield Bench(str(folder), size, output, words)
        return
    with ExitStack() as stack:
        s3 = stack.enter_context(counting_s3())
        bucket = s3.server.new_bucket()
        client: Any = s3.server.client()  # type: ignore[no-untyped-call] # boto3 is untyped
        client.put_object(Bucket=bucket, Key=NAME, Body=film.read_bytes())
        home = {"HOME": str(scratch), "LIGHTLY_FS_STATE_DIR": str(scratch / "state")}
        environ = {**s3.server.environ(), **home}
        given = ("read_through=object", f"s3.url={s3.server.url}", *words)
        yield Bench(f"s3://{bucket}/", size, output, given, environ, s3)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=FILM.frames)
    parser.add_argument("--ways", nargs="+", choices=["directory", "object"])
    parser.add_argument("--keep", type=Path, help="directory of the film; one there is used")
    given = parser.parse_args()
    same = True
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        film = (given.keep or scratch) / f"film-{given.frames}.mp4"
        if not film.exists():
            made = shoot(
                film.with_suffix(".part.mp4"), Film(**{**vars(FILM), "frames": given.frames})
            )
            made.rename(film)
        for way in given.ways or ["directory", "object"]:
            with on(way, film, scratch) as bench:
                found = kill_and_resume(bench)
            same = same and found.same
            row = {
                "way": way,
                "mb": round(bench.size / 1e6, 1),
                "frames": found.frames,
                "committed": found.committed,
                "whole_mb": None
                if found.whole_bytes is None
                else round(found.whole_bytes / 1e6, 1),
                "resumed_mb": None
                if found.resumed_bytes is None
                else round(found.resumed_bytes / 1e6, 1),
                "same_embeddings": found.same,
            }
            print(json.dumps(row), flush=True)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
