import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightly_fs.artifacts import RunDir, dump_images, dump_names, require_all
from lightly_fs.config import RunConfig
from lightly_fs.decoding.export import exporter, suffix_of, target_size
from lightly_fs.errors import DatasourceError
from lightly_fs.types import Failure, Outcome
from tests.images import jpeg, scene

PART = st.sampled_from(["a", "b", "a.png", "a.jpg", "a.jpg.png", "a.png.png", ".png", "ü"])
NAMES = st.lists(st.lists(PART, min_size=1, max_size=2).map("/".join), unique=True)


@given(NAMES)
def test_names_of_copies_are_unique_and_do_not_depend_on_the_order(names):
    copies = dump_names(names, ".png")

    assert len(set(copies)) == len(names)
    assert all(copy.endswith(".png") for copy in copies)
    assert dict(zip(names[::-1], dump_names(names[::-1], ".png"), strict=True)) == dict(
        zip(names, copies, strict=True)
    )


def test_the_extension_is_replaced_or_appended():
    assert dump_names(["d.x/a.jpg", "b.jpg", "b.webp", "c"], ".png") == [
        "d.x/a.png",
        "b.jpg.png",
        "b.webp.png",
        "c.png",
    ]
    assert dump_names(["a.jpg"], "") == ["a.jpg"]


@pytest.mark.parametrize(
    ("wanted", "size"),
    [(-1, (320, 240)), (120, (160, 120)), (480, (640, 480)), ((10, 30), (30, 10))],
)
def test_copies_have_the_size_that_was_asked_for(config, wanted, size):
    assert target_size(320, 240, wanted) == size
    export = exporter(config.model_copy(update={"output_image_size": wanted}))

    assert Image.open(io.BytesIO(export(jpeg(scene(1))))).size == size


@pytest.mark.parametrize(("name", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_copies_have_the_format_that_was_asked_for(config, name, kind):
    config = config.model_copy(update={"output_image_format": name})

    assert Image.open(io.BytesIO(exporter(config)(jpeg(scene(1))))).format == kind
    assert suffix_of(config) == f".{name}"


def test_originals_are_copied_byte_by_byte(tmp_path, output, config, inventory):
    config = config.model_copy(update={"output_image_format": "original", "output_image_size": 9})
    run_dir = RunDir.open(output, config, tmp_path)
    run_dir.freeze(inventory)
    data = jpeg(scene(1))
    gone = Failure("d/1.jpg", Outcome.GONE, "deleted")

    failed = dump_images(
        run_dir,
        ["d/0.jpg", "d/1.jpg", "e/x\ny.webp"],
        lambda name: gone if name == gone.filename else memoryview(data),
        exporter(config),
        suffix_of(config),
    )

    assert failed == [gone]
    assert output.names("run/data/sampled") == ["d/0.jpg", "e/x\ny.webp"]
    assert output.read("run/data/sampled/d/0.jpg") == data


@pytest.mark.parametrize(("form", "longest"), [("webp", 16_383), ("jpg", 65_500)])
def test_a_copy_is_never_larger_than_its_format_or_the_limit_allows(form, longest):
    strip = io.BytesIO()
    Image.new("RGB", (66_000, 1)).save(strip, "PNG")
    config = RunConfig(output_image_format=form)
    assert Image.open(io.BytesIO(exporter(config)(strip.getvalue()))).width == longest

    config = RunConfig(output_image_format=form, output_image_size=16_383, max_image_pixels=100_000)
    width, height = Image.open(io.BytesIO(exporter(config)(jpeg(scene(1))))).size
    assert 95_000 < width * height <= 100_000


@pytest.mark.parametrize(
    ("failures", "hint"),
    [
        ([Failure("a.jpg", Outcome.FAILED, "timed out")], "the same command again: it resumes; or"),
        ([Failure("a.jpg", Outcome.UNREADABLE, "access denied")], "leave out dump_dataset"),
        (
            [
                Failure("a.jpg", Outcome.FAILED, "timed out"),
                Failure("b.jpg", Outcome.FAILED, "changed during the run: its ETag is another"),
            ],
            "choose another `run_directory`",
        ),
        ([Failure("b.jpg", Outcome.GONE, "deleted during the run")], "choose another"),
    ],
)
def test_whoever_cannot_resume_is_not_told_to(failures, hint):
    with pytest.raises(DatasourceError, match=f"1 of 2; `{failures[-1].filename}`") as caught:
        require_all(failures, "1 of 2", "leave out dump_dataset")
    assert hint in caught.value.hint
    require_all([], "nothing", "leave out dump_dataset")
