"""A selection as WebDataset shards: tar files that hold each image and a JSON with its objects."""

from __future__ import annotations

import io
import math
import posixpath
import tarfile
from collections.abc import Iterable, Iterator
from itertools import islice

from lightly_fs.annotations.export import Export, File, to_json
from lightly_fs.datasource.reader import Buffer


def webdataset(
    export: Export, contents: Iterable[Buffer], *, shard_size: int = 1000
) -> Iterator[File]:
    """`shard-000000.tar` and on: each image, and beside it a JSON with its objects.

    Args:
        export: K images.
        contents: Their K files.
        shard_size: Images in a shard.
    """
    names = [one.name for one in export.categories]
    pairs = zip(export.images, contents, strict=True)
    for number in range(math.ceil(len(export.images) / shard_size)):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for image, content in islice(pairs, shard_size):
                # The first dot of a name ends the sample's key.
                stem, extension = posixpath.splitext(image.filename)
                key = stem.replace("%", "%25").replace(".", "%2E")
                objects = [
                    {"category": names[one.category], "bbox": one.box, "score": one.score}
                    for one in image.objects or ()
                ]
                facts = {"filename": image.filename, "url": image.url, "objects": objects}
                _add(archive, key + extension.lower(), bytes(content))
                _add(archive, key + ".json", to_json(facts))
        yield f"shard-{number:06d}.tar", buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))
