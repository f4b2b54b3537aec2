"""A bucket of videos of every kind, whole and broken, through one run: what comes out of each file.

    python scripts/video_matrix.py [--keep DIR]

Makes every container with every codec that it can hold, the special cases, and damaged files; runs
`lightly-fs run` on them; counts the frames of each file with ffprobe; prints Markdown tables. Ends
with 1, and names the files, where one did not end as it is documented to.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.films import Film, h265, leave_empty, record_silence, shoot

H264 = Film(options={"preset": "veryfast", "bf": "2"})
CODECS: Mapping[str, Film] = {
    "h264": H264,
    "h265": Film("libx265", options=h265("keyint=10:bframes=2")),
    "vp9": Film("libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}),
    "av1": Film("libsvtav1", options={"preset": "10", "svtav1-params": "keyint=10"}),
    "mpeg2": Film("mpeg2video", options={"bf": "2"}),
    "mpeg4": Film("mpeg4", options={"bf": "2"}),
    "mjpeg": Film("mjpeg", pixels="yuvj420p", bit_rate=2_000_000),
    "cinepak": Film("cinepak", pixels="rgb24", frames=20),
}
CONTAINERS: Mapping[str, tuple[str, str]] = {
    "mp4": ("mp4", "h264 h265 vp9 av1 mpeg2 mpeg4 mjpeg"),
    "m4v": ("ipod", "h264 mpeg4"),
    "mov": ("mov", "h264 h265 mpeg2 mpeg4 mjpeg cinepak"),
    "avi": ("avi", "h264 vp9 av1 mpeg2 mpeg4 mjpeg cinepak"),
    "mkv": ("matroska", "h264 h265 vp9 av1 mpeg2 mpeg4 mjpeg"),
    "webm": ("webm", "vp9 av1"),
    "mpg": ("mpeg", "h264 h265 mpeg2 mpeg4"),
    "mpeg": ("mpegts", "h264 h265 mpeg2 mpeg4"),
    "hevc": ("hevc", "h265"),
}
"""By a file's ending: FFmpeg's muxer, and the codecs that it can hold."""

_CLOSED = "keyint=10:min-keyint=10:scenecut=0"
_STRICT_B = {"preset": "veryfast", "bf": "3", "b_strategy": "0"}
SPECIAL: Mapping[str, Film] = {
    "variable-rate.mp4": replace(H264, timestamps=lambda n: 40 * n + n * n % 17),
    "variable-rate.mkv": replace(H264, timestamps=lambda n: 40 * n + n * n % 17),
    "ten-bit-h264.mp4": replace(H264, pixels="yuv420p10le"),
    "ten-bit-h265.mkv": Film("libx265", pixels="yuv420p10le", options=h265("keyint=10")),
    "interlaced-mpeg2.mpg": Film("mpeg2video", options={"flags": "+ilme+ildct", "bf": "2"}),
    "interlaced-h264.mp4": Film(options={"preset": "veryfast", "x264-params": "tff=1"}),
    "b-frames.mov": Film(options=_STRICT_B),
    "open-gop-h264.mp4": Film(options={**_STRICT_B, "x264-params": f"open-gop=1:{_CLOSED}"}),
    "open-gop-h265.mkv": Film("libx265", options=h265(f"open-gop=1:bframes=3:b-adapt=0:{_CLOSED}")),
    "no-timestamps.hevc": Film("libx265", options=h265("keyint=10:bframes=2")),
    "timestamps-missing-b.avi": Film("mpeg4", options={"bf": "2"}),
    "fragmented.mp4": replace(H264, container={"movflags": "frag_keyframe+empty_moov"}),
    "with-sound.m4v": replace(H264, audio=True),
}

WHOLE, PART = "whole", "in part"


@dataclass(frozen=True)
class Case:
    """A file, and how it is documented to end.

    Attributes:
        ends: `WHOLE`: all frames embedded, nothing wrong. `PART`: some frames are embedded, and
            it says what is wrong. Else words of the reason for which the video is corrupt.
    """

    filename: str
    ends: str


def make_bucket(folder: Path) -> list[Case]:
    """Write all files below a folder."""
    cases = [*_combinations(folder), *_special(folder), *_damaged(folder)]
    return sorted(cases, key=lambda case: case.filename)


def _combinations(folder: Path) -> Iterator[Case]:
    for ending, (muxer, codecs) in CONTAINERS.items():
        (folder / "codecs").mkdir(exist_ok=True)
        for codec in codecs.split():
            name = f"codecs/{codec}.{ending}"
            shoot(folder / name, replace(CODECS[codec], muxer=muxer))
            yield Case(name, WHOLE)


def _special(folder: Path) -> Iterator[Case]:
    (folder / "special").mkdir()
    for name, film in SPECIAL.items():
        shoot(folder / "special" / name, film)
        yield Case(f"special/{name}", WHOLE)
    upright, rotated = folder / "upright.mp4", folder / "special/rotated.mov"
    shoot(upright, H264)
    command = ["ffmpeg", "-v", "error", "-i", str(upright), "-c", "copy"]
    subprocess.run([*command, "-metadata:s:v", "rotate=90", str(rotated)], check=True)
    upright.unlink()
    yield Case("special/rotated.mov", WHOLE)
    record_silence(folder / "special/only-sound.mp4")
    yield Case("special/only-sound.mp4", "no video stream: only audio")
    leave_empty(folder / "special/no-frames.mp4")
    yield Case("special/no-frames.mp4", "no frames: the video stream is empty")


def _damaged(folder: Path) -> Iterator[Case]:
    (folder / "damaged").mkdir()
    noise = np.random.default_rng(0)
    wholes = {
        "moov-first.mp4": replace(H264, container={"movflags": "faststart"}),
        "moov-last.mp4": H264,
        "whole.mkv": H264,
    }
    contents = {}
    for name, film in wholes.items():
        contents[name] = shoot(folder / name, film).read_bytes()
    last = _last_packet(folder / "whole.mkv")
    for name in wholes:
        (folder / name).unlink()
    first, end, mkv = contents["moov-first.mp4"], contents["moov-last.mp4"], contents["whole.mkv"]
    made: dict[str, tuple[bytes, str]] = {
        "truncated-tail.mp4": (first[: int(0.6 * len(first))], PART),
        "truncated-tail.mkv": (mkv[: int(0.6 * len(mkv))], PART),
        "truncated-header.mp4": (first[:400], "the file ends in the middle of its index (moov)"),
        "zeroed-middle.mp4": (_zeroed(first), PART),
        "garbage.avi": (noise.bytes(50_000), "not a video"),
        "empty.webm": (b"", "empty file"),
        "text.mp4": (b"this is a text and no video\n" * 200, "not a video"),
        "bit-flips.mkv": (_flipped(mkv, noise), PART),
        "moov-missing.mp4": (end[: end.index(b"moov") - 4], "the index (moov) is missing"),
        "wrong-extension.avi": (end, WHOLE),
        "half-packet.mkv": (mkv[:last], PART),
    }
    for name, (content, ends) in made.items():
        (folder / "damaged" / name).write_bytes(content)
        yield Case(f"damaged/{name}", ends)


def _last_packet(path: Path) -> int:
    """Return the byte in the middle of a file's last packet."""
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    pos, size = max((pos, size) for pos, size in places if pos is not None)
    return pos + size // 2


def _zeroed(data: bytes) -> bytes:
    begin, length = len(data) // 2, len(data) // 20
    return data[:begin] + bytes(length) + data[begin + length :]


def _flipped(data: bytes, noise: np.random.Generator) -> bytes:
    flipped = bytearray(data)
    for place in noise.integers(len(data) // 4, len(data) * 3 // 4, 12).tolist():
        flipped[place] ^= 1 << int(noise.integers(8))
    return bytes(flipped)


@dataclass(frozen=True)
class Ended:
    """What a run tells of a video."""

    codec: str
    container: str
    frames: int
    embedded: int
    corrupt: int
    problem: str


def run(folder: Path, output: Path, words: Sequence[str] = ()) -> Path:
    """Select some frames of all videos; return the directory of the run."""
    output.mkdir()
    command = [sys.executable, "-m", "lightly_fs", "run", f"input_dir={folder}", *words]
    command += [f"output_dir={output}", "run_directory=r", "stopping_condition.n_samples=50"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the run ended with {done.returncode}: {done.stderr[-2000:]}")
    return output / "r"


def endings(directory: Path) -> dict[str, Ended]:
    """Return what became of each video of a run."""
    with (directory / "data/videos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        row["filename"]: Ended(
            row["codec"],
            row["container"],
            int(row["frames"] or 0),
            int(row["embedded"] or 0),
            int(row["corrupt"] or 0),
            row["problem"],
        )
        for row in rows
    }


def is_as_documented(case: Case, ended: Ended, counted: int | None) -> bool:
    """Tell whether a video ended as it is documented to."""
    if ended.embedded + ended.corrupt != ended.frames:
        return False
    if case.ends == WHOLE:
        clean = not ended.corrupt and not ended.problem
        return clean and 0 < ended.embedded == counted
    if case.ends == PART:
        return ended.embedded > 0 and bool(ended.corrupt or ended.problem)
    return not ended.frames and case.ends in ended.problem


def sums_hold(directory: Path, ended: Mapping[str, Ended], cases: Sequence[Case]) -> bool:
    """Tell whether every file and every frame is counted once."""
    counts = json.loads((directory / "manifest.json").read_text())["counts"]
    kinds = ("embedded", "corrupt", "gone", "failed", "unreadable")
    total = counts["inventory"] - counts["videos"] + counts["frames"]
    return bool(
        sum(counts[kind] for kind in kinds) == total
        and counts["inventory"] == len(cases) == len(ended)
        and counts["frames"] == sum(one.frames for one in ended.values())
        and counts["embedded"] == sum(one.embedded for one in ended.values())
    )


def count_frames(path: Path) -> int | None:
    """Return how many frames ffprobe decodes; None where it decodes none."""
    command = ["ffprobe", "-v", "quiet", "-select_streams", "v:0", "-count_frames"]
    command += ["-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    first = told.replace(",", " ").split()
    return int(first[0]) if first and first[0].isdigit() else None


def grid(ended: Mapping[str, Ended], counted: Mapping[str, int | None]) -> Iterator[str]:
    """Yield a table of containers and codecs: embedded frames, and those that ffprobe counts."""
    yield f"| frames embedded / of ffprobe | {' | '.join(CODECS)} |"
    yield f"|---|{'--:|' * len(CODECS)}"
    for ending, (_, codecs) in CONTAINERS.items():
        cells = []
        for codec in CODECS:
            name = f"codecs/{codec}.{ending}"
            there = codec in codecs.split()
            cells.append(f"{ended[name].embedded} / {counted[name]}" if there else "")
        yield f"| {ending} | {' | '.join(cells)} |"


def line(case: Case, ended: Ended, counted: int | None) -> str:
    """Return a row of the table."""
    container = ended.container.split(",", 1)[0]
    problem = ended.problem.replace("|", "\\|")
    cells = [f"`{case.filename}`", ended.codec, container, str(counted or 0)]
    cells += [str(ended.frames), str(ended.embedded), str(ended.corrupt), problem]
    return f"| {' | '.join(cells)} |"


def main(say: Callable[[str], object] = print) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", type=Path, help="a new directory for the files and the run")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = given.keep or Path(scratch)
        folder = place / "bucket"
        folder.mkdir(parents=True)
        cases = make_bucket(folder)
        directory = run(folder, place / "out")
        ended = endings(directory)
        counted = {case.filename: count_frames(folder / case.filename) for case in cases}
    for row in grid(ended, counted):
        say(row)
    say("")
    say("| file | codec | container | ffprobe | frames | embedded | corrupt | problem, reason |")
    say("|---|---|---|--:|--:|--:|--:|---|")
    for case in cases:
        if not case.filename.startswith("codecs/"):
            say(line(case, ended[case.filename], counted[case.filename]))
    wrong = [
        case.filename
        for case in cases
        if not is_as_documented(case, ended[case.filename], counted[case.filename])
    ]
    if wrong:
        print(f"not as documented: {', '.join(wrong)}", file=sys.stderr)
    if not sums_hold(directory, ended, cases):
        print("the sums do not hold", file=sys.stderr)
        return 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
