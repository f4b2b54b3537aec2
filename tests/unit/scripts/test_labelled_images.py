"""Images with classes from folders, archives and boxes, and their changed copies."""

import io
import tarfile

import numpy as np
import pytest
from image_changes import CHANGES, STRONG, changed
from labelled_images import crops_of, read_archives, read_crops, read_given, read_labelled
from PIL import Image
from selection_pools import class_sizes, frames


def photograph(seed=0, size=(90, 60)):
    """Smooth colours, (h, w, 3)."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.array(Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC))


def encoded(pixels, kind):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, lossless=True)
    return buffer.getvalue()


def write_folders(root, classes=("cat", "dog"), each=3):
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(each):
            pixels = np.full((8, 8, 3), 10 * c + number, np.uint8)
            (root / name / f"{number}.png").write_bytes(encoded(pixels, "PNG"))


def test_a_box_is_cut_out_where_it_is():
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[20:60, 50:130] = 255

    ((kind, crop),) = crops_of(pixels, "17 0.45 0.4 0.4 0.4\n")

    assert kind == 17
    assert crop.shape == (40, 80, 3)
    assert (crop == 255).all()


def test_boxes_end_at_the_edge_and_small_ones_are_left_out():
    pixels = np.zeros((100, 200, 3), np.uint8)
    boxes = "1 0.0 0.5 0.5 1.0\n2 0.5 0.5 0.15 1.0\n\n3 0.5 0.5 0.16 0.32\n4 0.5 0.5 1.0 0.3\n"

    found = [(kind, crop.shape[:2]) for kind, crop in crops_of(pixels, boxes)]

    assert found == [(1, (100, 50)), (3, (32, 32))]


def test_crops_need_five_of_a_class_and_know_their_photograph(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part / "val2017").mkdir(parents=True)
    for number, boxes in enumerate(["1 .5 .5 1 1\n" * 4 + "2 .5 .5 1 1\n" * 4, "1 .5 .5 .9 .9\n"]):
        image = tmp_path / "images/val2017" / f"{number}.jpg"
        Image.fromarray(photograph()).save(image, "JPEG")
        (tmp_path / "labels/val2017" / f"{number}.txt").write_text(boxes)

    crops = read_crops(tmp_path)

    assert crops.classes == ["01"]
    assert crops.labels.tolist() == [0] * 5
    assert crops.groups.tolist() == [0, 0, 0, 0, 1]


def test_folders_and_archives_hold_the_same(tmp_path):
    write_folders(tmp_path / "train")
    with tarfile.open(tmp_path / "train.tar", "w") as archive:
        archive.add(tmp_path / "train", "train")

    for path in (tmp_path / "train", tmp_path / "train.tar"):
        found = read_labelled([path], per_class=2)
        assert found.classes == ["cat", "dog"]
        assert found.labels.tolist() == [0, 0, 1, 1]
        assert [int(pixels[0, 0, 0]) for pixels in found.images] == [0, 1, 10, 11]
    images, labels = read_archives([tmp_path / "train.tar"])
    assert images.shape == (6, 8, 8, 3)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 10, 11, 12]


def test_broken_files_are_left_out_and_counted(tmp_path, capsys):
    write_folders(tmp_path)
    (tmp_path / "cat/0.png").write_bytes(b"no image")

    assert len(read_labelled([tmp_path])) == 5
    assert "1 files of" in capsys.readouterr().err


def test_a_bank_of_other_classes_is_refused(tmp_path):
    write_folders(tmp_path / "queries")
    write_folders(tmp_path / "bank", classes=("cat", "cow"))

    with pytest.raises(ValueError, match="only one has the classes"):
        read_given(tmp_path / "queries", tmp_path / "bank", None)


@pytest.mark.parametrize("name", list(CHANGES))
def test_a_copy_differs_a_little_and_depends_on_its_row_alone(name):
    images = [photograph(seed) for seed in range(3)]

    copies = changed(images, [0, 2], CHANGES[name])
    again = changed(images, [2], CHANGES[name])

    assert np.array_equal(copies[1], again[0])
    assert all(copy.dtype == np.uint8 and copy.flags.writeable for copy in copies)
    small = [np.asarray(Image.fromarray(p).resize((6, 4))) for p in (images[0], copies[0])]
    if name != "flip":
        assert np.abs(small[0].astype(int) - small[1]).mean() < 60
    assert copies[0].shape != images[0].shape or not np.array_equal(copies[0], images[0])


def test_changes_stay_within_what_they_promise():
    images = [photograph(size=(640, 480))] * 200
    whole = images[0].shape[0] * images[0].shape[1]

    shares = [
        copy.shape[0] * copy.shape[1] / whole
        for copy in changed(images, range(200), CHANGES["crop"])
    ]
    strong = changed(images, range(3), STRONG)

    assert 0.79 < min(shares) < 0.82
    assert 0.93 < max(shares) < 0.96
    assert [copy.shape[0] * copy.shape[1] / whole for copy in strong] == pytest.approx(
        [0.5] * 3, abs=0.005
    )
    assert np.array_equal(changed(images, [0], CHANGES["flip"])[0][:, ::-1], images[0])
    assert changed(images, [0], CHANGES["half"])[0].shape == (240, 320, 3)


def test_the_pool_of_frames_has_a_long_tail_and_repeats_its_head(tmp_path):
    write_folders(tmp_path, classes=tuple("abcd"), each=25)
    train = read_labelled([tmp_path])

    pool = frames(train, seed=0)

    sizes = sorted(np.bincount(pool.labels), reverse=True)
    assert sizes == class_sizes(4, 100) == [100, 27, 7, 2]
    for rank, label in enumerate(np.argsort(-np.bincount(pool.labels))):
        scenes = pool.scenes[pool.labels == label]
        most = np.bincount(scenes).max()
        assert most == (5 if rank < 2 else 1)
        assert (train.labels[scenes] == label).all()
    assert len({pixels.tobytes() for pixels in pool.images}) > len(set(pool.scenes.tolist()))
    assert all(
        np.array_equal(a, b) for a, b in zip(pool.images, frames(train, 0).images, strict=True)
    )
