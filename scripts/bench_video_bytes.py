"""What is read of a video, against its size: one JSON line per video and way of reading.

    python scripts/bench_video_bytes.py [--data DIR] [--ways object mount]

A bucket of videos on a real S3 server (moto, in this process): an MP4 of more than 100 MB with its
index at the end, a Matroska and an AVI file, and the videos below DIR. All frames of each are
decoded, with two threads. Requests and bytes are those that the server counted: through a mount
they are what s3fs asked for. A second line tells what twelve frames at full resolution cost.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lightly_fs.config.run import PropertiesMode
from lightly_fs.datasource.bucket import Bucket, Credentials
from lightly_fs.datasource.mount import MountRequest, mounted
from lightly_fs.datasource.mount_reader import MountReader
from lightly_fs.datasource.object_reader import ObjectReader
from lightly_fs.datasource.objects import ObjectStore
from lightly_fs.datasource.reader import Reader
from lightly_fs.datasource.source import Source
from lightly_fs.decoding.images import DecodeSettings
from lightly_fs.decoding.videos import FrameExtractor, Sampling, frame_batches
from lightly_fs.types import Failure, Frame, ImageRecord, Sample, VideoFacts
from tests.counting_s3 import CountingS3, Sent, counting_s3
from tests.films import Film, shoot

_LOSSLESS = {"preset": "ultrafast", "qp": "0"}
FILMS: Mapping[str, Film] = {
    "moov-last.mp4": Film(options=_LOSSLESS, frames=400, gop=32, size=(640, 360), grain=255),
    "cues.mkv": Film(options=_LOSSLESS, frames=200, gop=32, size=(320, 180), grain=64),
    "index.avi": Film(
        "mjpeg", pixels="yuvj420p", frames=300, size=(320, 180), grain=32, bit_rate=8_000_000
    ),
}
N_WRITTEN = 12


@dataclass(frozen=True)
class Streamed:
    """What decoding a video cost."""

    n_frames: int
    size: int
    requests: int
    bytes: int
    written: Sent
    """What `N_WRITTEN` frames, spread over the video, cost besides."""


def upload(s3: CountingS3, bucket: str, path: Path) -> Sample:
    """Put a file into a bucket; return what the inventory has of it."""
    client: Any = s3.server.client()  # type: ignore[no-untyped-call] # boto3 is untyped
    client.put_object(Bucket=bucket, Key=path.name, Body=path.read_bytes())
    found = client.head_object(Bucket=bucket, Key=path.name)
    modified = int(found["LastModified"].timestamp()) * 10**9
    return Sample(path.name, found["ContentLength"], found["ETag"].strip('"'), modified)


def stream(s3: CountingS3, bucket: str, sample: Sample, reader: Reader) -> Streamed:
    """Decode all frames of a video, then some at full resolution.

    Raises:
        ValueError: Not every frame can be decoded.
    """
    key = f"{bucket}/{sample.filename}"
    s3.sent.pop(key, None)
    settings = DecodeSettings(64, PropertiesMode.OFF, threads=2)
    records: list[ImageRecord] = []
    ended: list[VideoFacts | Failure] = []
    for batch in frame_batches([sample], reader.open, settings, Sampling()):
        records += [one for one in batch.results if isinstance(one, ImageRecord)]
        ended += batch.ended
    decoded = s3.sent.pop(key, Sent())
    if not isinstance(ended[0], VideoFacts) or len(records) != ended[0].n_frames:
        raise ValueError(f"{sample.filename} is not decoded whole: {ended[0]}")
    step = max(1, len(records) // N_WRITTEN)
    with closing(FrameExtractor(reader.open, settings.max_pixels)) as extractor:
        for record in records[::step][:N_WRITTEN]:
            frame = record.frame or Frame("", 0, None, None)
            pixels = extractor.read(sample, frame)
            if isinstance(pixels, Failure):
                raise ValueError(f"{sample.filename}: {pixels.reason}")  # noqa: TRY004 - no type
    written = s3.sent.pop(key, Sent())
    return Streamed(len(records), sample.size, decoded.requests, decoded.bytes, written)


@contextmanager
def opened(s3: CountingS3, bucket: str, way: str, scratch: Path) -> Iterator[Reader]:
    """Open a bucket directly (`object`) or through a new s3fs mount (`mount`)."""
    keys = Credentials(s3.server.access_key, s3.server.secret_key)
    place = Bucket(bucket, "", s3.server.url, "us-east-1", path_style=True, credentials=keys)
    if way == "object":
        with closing(ObjectReader(ObjectStore(place))) as direct:
            yield direct
        return
    scratch.mkdir(parents=True, exist_ok=True)
    environ = {**s3.server.environ(), "HOME": str(scratch), "PATH": os.environ["PATH"]}
    environ["LIGHTLY_FS_STATE_DIR"] = str(scratch / "state")
    request = MountRequest(bucket=bucket, prefix="", directory=scratch / "m", url=place.url)
    with mounted(request, environ) as made:
        source = Source(place.uri, made.directory, place, made.stripes, owned=True, mounted=True)
        with closing(MountReader(source, environ)) as through:
            yield through


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder of more videos")
    parser.add_argument("--ways", nargs="+", choices=["object", "mount"], default=["object"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, counting_s3() as s3:
        scratch = Path(folder)
        bucket = s3.server.new_bucket()
        paths = sorted(given.data.glob("*.*")) if given.data else []
        paths += [shoot(scratch / name, film) for name, film in FILMS.items()]
        samples = [upload(s3, bucket, path) for path in paths]
        for way in given.ways:
            for sample in samples:
                # A mount of its own for each: s3fs keeps what it has read.
                with opened(s3, bucket, way, scratch / f"{way}-{sample.filename}") as reader:
                    found = stream(s3, bucket, sample, reader)
                row = {
                    "video": sample.filename,
                    "way": way,
                    "frames": found.n_frames,
                    "mb": round(found.size / 1e6, 1),
                    "requests": found.requests,
                    "bytes_of_size": round(found.bytes / found.size, 3),
                    "frames_written": N_WRITTEN,
                    "requests_to_write": found.written.requests,
                    "bytes_to_write_of_size": round(found.written.bytes / found.size, 3),
                }
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
