"""Whatever a label file holds, an import ends with a task or with an error that names the fault."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lightly_fs.annotations import brush
from lightly_fs.annotations.labels import NothingValidError
from lightly_fs.annotations.predictions import read_predictions
from lightly_fs.errors import LightlyFSError
from lightly_fs.pipeline.labelling import ImportRequest, import_task
from tests.unit.annotations.folder import LightlyFolder
from tests.unit.annotations.test_any_content import anything, numbers

NAMES = ["a.jpg", "b.jpg"]

ids = st.sampled_from([0, 1, 2]) | anything
corners = st.lists(st.integers(0, 8), min_size=4, max_size=4) | st.lists(numbers, max_size=5)
segmentations = (
    st.lists(corners, max_size=2)
    | st.fixed_dictionaries(
        {"size": st.just([6, 8]) | anything},
        optional={"counts": st.just([40, 8]) | st.just("X1H0") | st.text(max_size=5) | anything},
    )
    | anything
)


def entries(*valid, **fields):
    """A list of valid entries and of others with any of these fields; or something else."""
    others = st.lists(st.fixed_dictionaries({}, optional=fields) | anything, max_size=4)
    return others.map(lambda more: [*valid, *more]) | anything


coco = st.fixed_dictionaries(
    {
        "images": entries(
            {"id": 0, "file_name": "a.jpg", "width": 8, "height": 6},
            id=ids,
            file_name=st.sampled_from(NAMES) | anything,
            width=st.just(8) | anything,
            height=st.just(6) | anything,
        ),
        "categories": entries(
            {"id": 0, "name": "bus"},
            id=ids,
            name=st.sampled_from(["car", "cat"]) | anything,
            keypoints=st.lists(st.sampled_from(["nose", "tail"])) | anything,
            skeleton=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3))) | anything,
        ),
        "annotations": entries(
            {
                "image_id": 0,
                "category_id": 0,
                "bbox": [1, 1, 2, 2],
                "segmentation": [[1, 1, 3, 1, 3, 3]],
                "keypoints": [1, 1, 2],
            },
            id=ids,
            image_id=ids,
            category_id=ids,
            bbox=corners | anything,
            score=st.floats(0, 1) | anything,
            segmentation=segmentations,
            keypoints=st.lists(st.integers(0, 8), min_size=3, max_size=7) | anything,
            iscrowd=ids,
        ),
    }
)
values = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("x", "y", "width", "height", "rotation"), st.integers(0, 50) | anything),
        **dict.fromkeys(("rectanglelabels", "brushlabels", "choices"), st.just(["car"]) | anything),
        "rle": st.just(list(brush.encode([40, 8]))) | st.lists(st.integers(0, 255)) | anything,
    },
)
regions = entries(
    type=st.text(max_size=4) | anything,
    value=values | anything,
    original_width=st.just(8) | anything,
    original_height=st.just(6) | anything,
    score=st.floats(0, 1) | anything,
)
label_studio = entries(
    {"data": {"image": "a.jpg"}, "annotations": [{"result": []}]},
    data=st.fixed_dictionaries({}, optional={"image": st.sampled_from(NAMES) | anything}),
    annotations=entries(result=regions, was_cancelled=st.booleans() | anything),
)
words = st.sampled_from(
    ["car", "cat", "", "1", "2", "6", "-1", "nan", "1e400", "x", "a.jpg", "\ud7ff", "1,2;6,2;6,6"]
)


def element(tag, *children, **attributes):
    """An element with any of these children, any number of times, and any of these attributes."""
    inner = st.lists(st.one_of(children), max_size=5).map("".join) if children else words
    named = st.fixed_dictionaries({}, optional=dict.fromkeys(attributes, words))
    return st.builds(
        lambda text, given_: (
            f"<{tag}{''.join(f' {key}={json.dumps(value)}' for key, value in given_.items())}>"
            f"{text}</{tag}>"
        ),
        inner,
        named,
    )


META = "<meta><task><labels><label><name>car</name></label></labels></task></meta>"
shapes = (
    element("box", **dict.fromkeys(("label", "xtl", "ytl", "xbr", "ybr"))),
    element("mask", **dict.fromkeys(("label", "rle", "left", "top", "width", "height"))),
    element("polygon", label=None, points=None),
    st.just('<mask label="car" rle="1,3" left="1" top="1" width="2" height="2"/>'),
    st.just('<polygon label="car" points="1,1;5,1;5,5"/>'),
)
cvat = element(
    "annotations",
    st.just(META),
    element("image", *shapes, name=None, width=None, height=None),
    st.lists(st.one_of(shapes), max_size=3).map(
        lambda some: f'<image name="a.jpg" width="8" height="6">{"".join(some)}</image>'
    ),
)
voc = element(
    "annotation",
    st.just("<filename>a.jpg</filename>"),
    element("filename"),
    element(
        "object",
        st.just("<name>car</name>"),
        element("bndbox", *map(element, ("xmin", "ymin", "xmax", "ymax"))),
    ),
)
shares = st.floats(0, 1).map(str)
yolo = st.lists(
    st.lists(words | st.floats().map(str), max_size=9).map(" ".join)
    | st.lists(shares, min_size=6, max_size=9).map(lambda some: " ".join(["1", *some]))
).map("\n".join)

FORMATS = {
    "coco": ("coco", "labels.json", coco.map(json.dumps)),
    "coco-keypoints": ("coco-keypoints", "labels.json", coco.map(json.dumps)),
    "coco-masks": ("coco-masks", "labels.json", coco.map(json.dumps)),
    "label-studio": ("label-studio", "labels.json", label_studio.map(json.dumps)),
    "cvat": ("cvat", "labels.xml", cvat),
    "cvat-masks": ("cvat-masks", "labels.xml", cvat),
    "pascal-voc": ("pascal-voc", "folder/a.xml", voc),
    "yolo": ("yolo", "yolo/a.txt", yolo),
    "yolo-masks": ("yolo-masks", "yolo/a.txt", yolo),
    "classes": ("yolo", "yolo/data.yaml", anything.map(lambda one: f"names: {json.dumps(one)}")),
}
BESIDE = {
    "data.yaml": "names: [car, cat]",
    "b.txt": "0 0.5 0.5 0.25 0.25",
    "b.xml": "<annotation><filename>b.jpg</filename></annotation>",
}
"""Valid files of other images, which are imported whatever is wrong with the first."""
damage = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 3), st.binary(max_size=3)),
    max_size=3,
)


def damaged(data: bytes, places) -> bytes:
    """Put bytes in at these shares of a file, in the place of some."""
    for share, n, more in places:
        start = int(share * len(data))
        data = data[:start] + more + data[start + n :]
    return data


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("broken") / "in"
    root.mkdir()
    for name in NAMES:
        Image.new("RGB", (8, 6)).save(root / name)
    return root


def bring_in(photos: Path, format_: str, path: Path):
    out = photos.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    request = ImportRequest(
        format=format_, path=path, task="t", input_dir=str(photos), out=str(out)
    )
    return import_task(request, {}), out


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_an_import_of_anything(photos, name, data):
    format_, file, contents = FORMATS[name]
    path = photos.parent / name / file
    path.parent.mkdir(parents=True, exist_ok=True)
    for beside, text in BESIDE.items():
        (path.parent / beside).write_text(text)
    content = data.draw(contents).encode("utf-8", "surrogatepass")
    path.write_bytes(damaged(content, data.draw(damage)))
    given_ = path if path.suffix == ".json" or format_.startswith("cvat") else path.parent

    try:
        done, out = bring_in(photos, format_, given_)
    except NothingValidError as error:
        refused = error.invalid
    except LightlyFSError as error:
        refused = [error]
    else:
        refused = []
    if refused:
        assert all(map(str, refused))
        return
    assert all(one.path and one.reason for one in done.invalid)
    # What was written is what a run reads, without a word about it.
    found = read_predictions(LightlyFolder(out).files, "t", NAMES)
    assert (found.predicted.sum(), len(found.categories)) == (done.n_labelled, done.n_objects)
    assert not found.invalid
