"""The formats that a selection is exported to: what each needs, what it can hold, who writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lightly_fs.annotations import export
from lightly_fs.annotations.exported import Export, ExportedImage, File
from lightly_fs.annotations.webdataset import webdataset
from lightly_fs.datasource.reader import Buffer
from lightly_fs.datasource.source import Source
from lightly_fs.escaping import escape
from lightly_fs.pipeline.finished import FinishedRun


class Use(Enum):
    """Whether a format holds something."""

    NEVER = 0
    MAY = 1
    MUST = 2


@dataclass(frozen=True)
class Material:
    """What an export is made of.

    Attributes:
        run: Where the selection is from.
        export: The selected images.
        contents: Gives their files, in the same order.
        source: Where the images are; None when nobody looked.
        signs: The images' URLs are signed.
    """

    run: FinishedRun
    export: Export
    contents: Callable[[], Iterator[Buffer]]
    source: Source | None = None
    signs: bool = False


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format.

    Attributes:
        make: Gives the files.
        main: Name of the file of a format that is one; "" for a folder of files. Others may lie
            beside it.
        task: Whether it holds predictions.
        urls: Whether it holds read URLs.
        masks: It holds the masks of objects.
        sizes: It says how large an image is.
        images: It holds the images.
    """

    make: Callable[[Material], Iterator[File]]
    main: str = ""
    task: Use = Use.MAY
    urls: Use = Use.NEVER
    masks: bool = False
    sizes: bool = True
    images: bool = False


def _filenames(given: Material) -> Iterator[File]:
    lines = "".join(f"{escape(image.filename)}\n" for image in given.export.images)
    yield "filenames.txt", lines.encode()


def _parquet(given: Material) -> Iterator[File]:
    images = given.export.images
    distances = given.run.distances()
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "filename": pa.array([image.filename for image in images], pa.string()),
        "order": pa.array(np.arange(len(images), dtype=np.int64)),
        "distance": pa.array(distances, mask=np.isinf(distances)),
        "width": pa.array([image.width for image in images], pa.int32()),
        "height": pa.array([image.height for image in images], pa.int32()),
        **given.run.properties,
    }
    if any(image.url is not None for image in images):
        columns["read_url"] = pa.array([image.url for image in images], pa.string())
    if given.export.schema is not None:
        names = given.export.schema.category_names
        columns["objects"] = pa.array([_objects(image, names) for image in images], _OBJECTS)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    yield "selection.parquet", sink.getvalue().to_pybytes()


_OBJECTS = pa.list_(
    pa.struct(
        [("category", pa.string()), ("score", pa.float64()), ("bbox", pa.list_(pa.float64()))]
    )
)


def _objects(image: ExportedImage, names: tuple[str, ...]) -> list[dict[str, object]] | None:
    if image.objects is None:
        return None
    return [
        {"category": names[one.category], "score": one.score, "bbox": one.box}
        for one in image.objects
    ]


def _hugging_face(given: Material) -> Iterator[File]:
    yield from export.hugging_face(given.export)
    for path, content in zip(export.image_paths(given.export), given.contents(), strict=True):
        yield path, bytes(content)


FORMATS: dict[str, Format] = {
    "filenames": Format(make=_filenames, main="filenames.txt", task=Use.NEVER, sizes=False),
    "parquet": Format(make=_parquet, main="selection.parquet", urls=Use.MAY),
    "coco": Format(
        make=lambda given: export.coco(given.export),
        main="coco.json",
        task=Use.MUST,
        urls=Use.MAY,
        masks=True,
    ),
    "yolo": Format(make=lambda given: export.yolo(given.export), task=Use.MUST, masks=True),
    "label-studio": Format(
        make=lambda given: export.label_studio(given.export),
        main="label_studio_tasks.json",
        urls=Use.MUST,
        masks=True,
    ),
    "labelbox": Format(
        make=lambda given: export.labelbox(given.export),
        main="labelbox_data_rows.json",
        task=Use.NEVER,
        urls=Use.MUST,
        sizes=False,
    ),
    "sama": Format(
        make=lambda given: export.sama(given.export),
        main="sama_tasks.json",
        task=Use.NEVER,
        urls=Use.MUST,
        sizes=False,
    ),
    "cvat": Format(
        make=lambda given: export.cvat(given.export), main="annotations.xml", masks=True
    ),
    "huggingface": Format(make=_hugging_face, images=True),
    "webdataset": Format(
        make=lambda given: webdataset(given.export, given.contents()), urls=Use.MAY, images=True
    ),
    "lightly": Format(
        make=lambda given: export.lightly(given.export), task=Use.MUST, masks=True, sizes=False
    ),
}
