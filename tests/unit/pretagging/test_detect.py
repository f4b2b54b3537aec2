import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightly_fs.config import RunConfig
from lightly_fs.datasource.directory_reader import DirectoryReader
from lightly_fs.pretagging.config import PretaggingConfig
from lightly_fs.pretagging.detect import DetectSettings, detect_samples, scaled_images
from lightly_fs.pretagging.detections import Detections
from lightly_fs.pretagging.detector import Detector, load_detector
from lightly_fs.types import Failure, Outcome, Sample
from tests.images import scene
from tests.unit.pretagging.detectors import FASTER, NAMES, SSDLITE

SIZES = [(427, 320), (320, 427), (640, 240), (200, 150), (854, 640), (426, 320)]


@pytest.fixture(scope="module")
def detector(shared) -> Detector:
    settings = PretaggingConfig(
        model=FASTER, weights="faster.pth", category_names=NAMES, min_score=0.6, max_boxes=20
    )
    return load_detector(RunConfig(shared_dir=str(shared), device="cpu"), settings)


@pytest.fixture(scope="module")
def squashing(shared) -> Detector:
    settings = PretaggingConfig(model=SSDLITE, weights="ssdlite.pth")
    return load_detector(RunConfig(shared_dir=str(shared), device="cpu"), settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Lossless images of several shapes, and two files that are none."""
    folder = tmp_path_factory.mktemp("images")
    for number, size in enumerate(SIZES):
        scene(number, *size).save(folder / f"{number}.png")
    (folder / "7.png").write_bytes(b"")
    (folder / "8.jpg").write_bytes(b"\xff\xd8 not really")
    return folder


def samples_of(folder: Path) -> list[Sample]:
    files = sorted(folder.iterdir())
    return [Sample(f.name, f.stat().st_size, None, f.stat().st_mtime_ns) for f in files]


def look(folder: Path, detector: Detector, batch_size: int = 4, samples=None):
    reader = DirectoryReader(folder)
    done: list[int] = []
    settings = DetectSettings(batch_size, 2, 10**8)
    given = samples_of(folder) if samples is None else samples
    found = detect_samples(given, reader, detector, settings, progress=done.append)
    size = reader.statistics().bytes_read
    reader.close()
    return found, sum(done), size


def test_every_sample_ends_in_its_place_and_is_read_once(folder, detector):
    found, done, n_bytes = look(folder, detector)
    samples = samples_of(folder)
    assert done == len(found) == len(samples) == 8
    assert n_bytes == sum(sample.size for sample in samples)
    assert [(one.width, one.height) for one in found[:6]] == SIZES
    assert all(len(one.scores) for one in found[:6])
    assert found[6] == Failure("7.png", Outcome.CORRUPT, "empty file")
    assert (found[7].filename, found[7].outcome) == ("8.jpg", Outcome.CORRUPT)
    assert found[7].reason.startswith("truncated")


def test_what_is_found_depends_on_the_image_alone(folder, detector):
    together, _, _ = look(folder, detector)
    alone, _, _ = look(folder, detector, 1)
    for one, other in zip(together[:6], alone[:6], strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.1)


def test_a_file_that_is_gone_is_a_failure_with_its_reason(folder, detector):
    samples = [*samples_of(folder)[:2], Sample("gone.png", 10, None, 1)]
    found, done, _ = look(folder, detector, samples=samples)
    assert done == 3
    assert isinstance(found[1], Detections)
    assert (found[2].filename, found[2].outcome) == ("gone.png", Outcome.GONE)


def test_more_shapes_than_are_kept_waiting(tmp_path, detector):
    widths = [320 + 40 * number for number in range(7)]
    for number, width in enumerate(widths):
        scene(number, width, 320).save(tmp_path / f"{number}.png")
    found, done, _ = look(tmp_path, detector)
    assert done == 7
    assert [each.width for each in found] == widths


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_boxes_are_those_of_the_upright_image(tmp_path, detector, orientation):
    upright = scene(5, 427, 320)
    turns = {3: 180, 6: 90, 8: 270}
    stored = upright.rotate(turns[orientation], expand=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, "PNG", exif=exif)
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    upright.save(tmp_path / "b.png")
    (turned, plain), _, _ = look(tmp_path, detector)
    assert (turned.width, turned.height) == (427, 320)
    assert len(plain.scores)
    assert np.array_equal(turned.boxes, plain.boxes)


def test_a_file_that_changed_since_it_was_listed_is_not_looked_at(tmp_path, detector):
    scene(1).save(tmp_path / "a.png")
    samples = samples_of(tmp_path)
    os.utime(tmp_path / "a.png", (1, 1))
    (found,), _, _ = look(tmp_path, detector, samples=samples)
    assert (found.outcome, found.reason[:7]) == (Outcome.FAILED, "changed")


def test_closing_early_ends_the_threads(folder, detector):
    reader = DirectoryReader(folder)
    images = scaled_images(
        samples_of(folder) * 50, reader, detector.size, DetectSettings(2, 2, 10**8)
    )
    assert not isinstance(next(images), Failure)
    images.close()
    reader.close()
    assert reader.statistics().bytes_read < 400 * max(s.size for s in samples_of(folder))


def test_grey_and_transparent_images_are_looked_at_as_rgb(tmp_path, squashing):
    scene(3).convert("L").save(tmp_path / "grey.png")
    scene(3).convert("RGBA").save(tmp_path / "rgba.png")
    scene(3, 320, 320).save(tmp_path / "right_size.png")
    found, _, _ = look(tmp_path, squashing)
    assert all(isinstance(one, Detections) for one in found)
