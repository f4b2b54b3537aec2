"""A selection as WebDataset shards: tar files that hold each image and a JSON with its objects."""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from lightly_fs.annotations.exported import Export, ExportedImage, File, to_json
from lightly_fs.datasource.reader import Buffer

SHARD_BYTES = 256 << 20
"""A shard is held in memory until it is written."""


def webdataset(
    export: Export,
    contents: Iterable[Buffer],
    *,
    shard_size: int = 1000,
    shard_bytes: int = SHARD_BYTES,
) -> Iterator[File]:
    """`shard-000000.tar` and on: each image, and beside it a JSON with its objects.

    Args:
        export: K images.
        contents: Their K files.
        shard_size: Images in a shard, at most.
        shard_bytes: A shard ends with the image that makes its images this large together.
    """
    names = [one.name for one in export.categories]
    stems = Counter(posixpath.splitext(image.filename)[0] for image in export.images)
    number, shard, n_bytes = 0, _Shard(), 0
    for image, content in zip(export.images, contents, strict=True):
        shard.add(_key(image.filename, stems), image, content, names)
        n_bytes += len(content)
        if shard.n_images == shard_size or n_bytes >= shard_bytes:
            yield f"shard-{number:06d}.tar", shard.finish()
            number, shard, n_bytes = number + 1, _Shard(), 0
    if shard.n_images:
        yield f"shard-{number:06d}.tar", shard.finish()


def _key(filename: str, stems: Mapping[str, int]) -> str:
    """Return a sample's key: no two share one, and none has a dot, which would end it."""
    stem, extension = posixpath.splitext(filename)
    key = stem.replace("%", "%25").replace(".", "%2E")
    return key if stems[stem] == 1 else f"{key}%{extension[1:]}"


class _Shard:
    def __init__(self) -> None:
        self.n_images = 0
        self._buffer = io.BytesIO()
        self._archive = tarfile.open(  # noqa: SIM115 - `finish` closes it
            fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT
        )

    def add(self, key: str, image: ExportedImage, content: Buffer, names: Sequence[str]) -> None:
        extension = posixpath.splitext(image.filename)[1].lower()
        objects = None
        if image.objects is not None:
            objects = [
                {"category": names[one.category], "bbox": one.box, "score": one.score}
                for one in image.objects
            ]
        facts = {"filename": image.filename, "url": image.url, "objects": objects}
        self._add(key + extension, bytes(content))
        self._add(key + ".json", to_json(facts))
        self.n_images += 1

    def _add(self, name: str, content: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        self._archive.addfile(info, io.BytesIO(content))

    def finish(self) -> bytes:
        self._archive.close()
        return self._buffer.getvalue()
