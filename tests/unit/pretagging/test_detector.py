import pickle
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torchvision.models import get_model, get_model_weights

from lightly_fs.config import RunConfig
from lightly_fs.errors import ConfigError, ModelError
from lightly_fs.pretagging.config import PretaggingConfig
from lightly_fs.pretagging.detector import Detector, build, detector_names, load_detector
from lightly_fs.pretagging.scaling import InputSize
from tests.unit.pretagging.detectors import FASTER, NAMES, SSDLITE, made, pixels

OWN = {"model": FASTER, "weights": "faster.pth", "category_names": NAMES}
COCO = {"model": SSDLITE, "weights": "ssdlite.pth"}


def loaded(shared, **keys) -> Detector:
    return load_detector(RunConfig(shared_dir=str(shared), device="cpu"), PretaggingConfig(**keys))


def refused(shared, error=ModelError, **keys):
    with pytest.raises(error) as caught:
        loaded(shared, **keys)
    return caught.value


@pytest.mark.parametrize(
    ("keys", "size", "classes"),
    [(COCO, (320, 320), 91), (OWN, (320, 427), 4)],
    ids=["squashed", "aspect kept"],
)
def test_finds_what_torchvision_finds(shared, keys, size, classes):
    reference = made(keys["model"], classes)
    head = getattr(reference, "roi_heads", reference)
    head.detections_per_img = 1000
    images = [pixels(seed, size[1], size[0]) for seed in range(3)]
    with torch.inference_mode():
        expected = reference([image.permute(2, 0, 1) / 255 for image in images])
    detector = loaded(shared, min_score=0.5, **keys)
    found = detector.detect(images, [size] * 3)
    names = detector.schema.category_names
    labels = ["", *NAMES] if "category_names" in keys else _coco_names()
    assert sum(len(one.scores) for one in found) > 10
    for ours, theirs in zip(found, expected, strict=True):
        keep = [
            at
            for at, (label, score) in enumerate(
                zip(theirs["labels"], theirs["scores"], strict=True)
            )
            if score >= 0.5 and labels[label] not in ("N/A", "__background__")
        ][:100]
        corners = ours.boxes + np.pad(ours.boxes[:, :2], ((0, 0), (2, 0)))
        assert [names[at] for at in ours.categories] == [labels[i] for i in theirs["labels"][keep]]
        np.testing.assert_allclose(ours.scores, theirs["scores"][keep], atol=1e-5)
        np.testing.assert_allclose(corners, theirs["boxes"][keep], atol=1e-2)


def _coco_names() -> list[str]:
    from torchvision.models.detection import SSDLite320_MobileNet_V3_Large_Weights as Weights

    return Weights.DEFAULT.meta["categories"]


def test_the_task_is_cocos_without_background_and_gaps(shared):
    schema = loaded(shared, **COCO).schema
    assert (schema.name, schema.task_type) == ("lightly_pretagging", "object-detection")
    assert len(schema.categories) == 80
    assert (schema.categories[0].id, schema.categories[0].name) == (1, "person")
    assert (schema.categories[-1].id, schema.categories[-1].name) == (90, "toothbrush")


def test_boxes_are_pixels_of_the_whole_image(shared):
    detector, image = loaded(shared, **OWN), pixels(1, 427, 320)
    (same,) = detector.detect([image], [(320, 427)])
    (large,) = detector.detect([image], [(960, 427 * 2)])
    assert len(same.scores)
    np.testing.assert_allclose(large.boxes, same.boxes * [2, 3, 2, 3])
    assert (large.width, large.height) == (854, 960)
    assert (large.boxes[:, :2] >= 0).all()
    assert (large.boxes[:, :2] + large.boxes[:, 2:] <= [854, 960]).all()


def test_a_larger_min_score_keeps_the_best_of_the_same(shared):
    image = [pixels(2, 427, 320)], [(320, 427)]
    (many,) = loaded(shared, min_score=0.2, max_boxes=1000, **OWN).detect(*image)
    (some,) = loaded(shared, min_score=0.6, max_boxes=1000, **OWN).detect(*image)
    (best,) = loaded(shared, min_score=0.2, max_boxes=5, **OWN).detect(*image)
    kept = int((many.scores >= 0.6).sum())
    assert 5 < kept < len(many.scores)
    assert (many.scores >= 0.2).all()
    assert np.array_equal(some.scores, many.scores[:kept])
    assert np.array_equal(some.boxes, many.boxes[:kept])
    assert np.array_equal(best.boxes, many.boxes[:5])


def test_a_score_that_is_exactly_the_least_is_kept(shared):
    image = [pixels(2, 427, 320)], [(320, 427)]
    (many,) = loaded(shared, min_score=0.2, **OWN).detect(*image)
    middle = len(many.scores) // 2
    (kept,) = loaded(shared, min_score=float(many.scores[middle]), **OWN).detect(*image)
    assert kept.scores[-1] == many.scores[middle]


def test_only_the_categories_that_were_asked_for(shared):
    image = [pixels(2)], [(320, 320)]
    whole = loaded(shared, min_score=0.3, max_boxes=10_000, **COCO)
    (everything,) = whole.detect(*image)
    names = np.array(whole.schema.category_names)[everything.categories]
    wanted = sorted(set(names.tolist()))[:2]
    detector = loaded(shared, min_score=0.3, max_boxes=10_000, categories=tuple(wanted), **COCO)
    (some,) = detector.detect(*image)
    expected = np.isin(names, wanted)
    assert sorted(detector.schema.category_names) == wanted
    assert 0 < expected.sum() < len(names)
    assert np.array_equal(some.boxes, everything.boxes[expected])
    ids = {one.name: one.id for one in whole.schema.categories}
    assert all(ids[one.name] == one.id for one in detector.schema.categories)


def test_the_record_says_which_detector_this_is(shared):
    one, same = loaded(shared, **COCO), loaded(shared, batch_size=3, **COCO)
    assert one.facts["model"] == f"torchvision/{SSDLITE}"
    assert one.facts["preprocessing"] == "squash 320, bilinear antialias"
    assert len(one.facts["weights_sha256"]) == 64
    assert one.digest == same.digest
    assert one.digest != loaded(shared, min_score=0.4, **COCO).digest
    assert one.digest != loaded(shared, categories=("car",), **COCO).digest


def test_a_model_that_nobody_knows_is_refused_with_those_that_are(shared):
    error = refused(shared, ConfigError, model="fasterrcnn_resnet50")
    assert "torchvision has no detector `fasterrcnn_resnet50`" in error.message
    assert "fasterrcnn_resnet50_fpn" in error.hint
    assert SSDLITE in refused(shared, ConfigError, model="yolo").hint


def test_categories_that_nobody_knows_are_refused_before_anything_is_fetched(tmp_path):
    error = refused(tmp_path, ConfigError, model=SSDLITE, categories=("persn",))
    assert "knows no category `persn`, but `person`" in error.message
    assert "person, bicycle, car" in error.hint
    error = refused(tmp_path, ConfigError, model=SSDLITE, categories=("N/A",))
    assert "knows no category `N/A`" in error.message
    error = refused(tmp_path, ConfigError, model=SSDLITE, category_names=NAMES)
    assert "there is no `weights`" in error.message


def test_weights_of_another_model_are_refused(shared):
    error = refused(shared, **{**COCO, "weights": "faster.pth"})
    assert f"does not fit torchvision/{SSDLITE}" in error.message
    assert "missing" in error.message
    assert "`model` must name" in error.hint


def test_weights_of_other_classes_are_refused(shared):
    error = refused(shared, **{**OWN, "category_names": ("cat", "dog")})
    assert "size mismatch" in error.message
    assert "`category_names`" in error.hint
    assert "size mismatch" in refused(shared, **{**OWN, "category_names": ()}).message


class _Code:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


def test_code_in_a_weights_file_is_never_run(shared, tmp_path):
    torch.save({"state_dict": made(SSDLITE, 91).state_dict(), "x": _Code()}, tmp_path / "w.pth")
    assert "can run any code" in refused(tmp_path, **{**COCO, "weights": "w.pth"}).message
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(_Code(), protocol=2))
    assert "w.pkl" in refused(tmp_path, **{**COCO, "weights": "w.pkl"}).message


def test_weights_that_are_no_numbers_are_refused(shared, tmp_path):
    state = torch.load(shared / "ssdlite.pth", weights_only=True)
    name = next(iter(state))
    state[name] = torch.full_like(state[name], float("nan"))
    torch.save(state, tmp_path / "w.pth")
    message = refused(tmp_path, **{**COCO, "weights": "w.pth"}).message
    assert f"NaN or infinite values in `{name}`" in message


def test_weights_that_are_not_there_are_named(tmp_path):
    message = refused(tmp_path, **COCO).message
    assert f"there is no weights file {tmp_path / 'ssdlite.pth'}" in message


@pytest.mark.parametrize("kind", ["safetensors", "checkpoint of a training", "older names"])
def test_the_same_weights_from_another_file(shared, tmp_path, kind):
    state = torch.load(shared / "faster.pth", weights_only=True)
    if kind == "safetensors":
        save_file(state, tmp_path / "w.safetensors")
    elif kind == "older names":  # those of torchvision's own files, which are from before 0.13
        old = {
            re.sub(r"(_blocks\.\d+|rpn\.head\.conv)(\.0)+\.", r"\1.", n): state[n] for n in state
        }
        assert len(old.keys() - state.keys()) == 10
        torch.save(old, tmp_path / "w.safetensors")
    else:
        content = {"model": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}
        torch.save(content, tmp_path / "w.safetensors")
    one = loaded(shared, **OWN)
    other = loaded(tmp_path, **{**OWN, "weights": "w.safetensors"})
    assert one.digest == other.digest


@pytest.fixture
def server(shared):
    """Serves the shared directory."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(shared)))
    server.asked = asked
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_weights_behind_an_address_are_fetched_once(server, shared, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # no logins
    url = f"http://127.0.0.1:{server.server_port}/ssdlite.pth"
    config = RunConfig(shared_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"), device="cpu")
    settings = PretaggingConfig(model=SSDLITE, weights=url)
    digests = {load_detector(config, settings).digest for _ in range(2)}
    assert digests == {loaded(shared, **COCO).digest}
    assert server.asked == ["/ssdlite.pth"]
    wrong = PretaggingConfig(model=SSDLITE, weights=f"{url}#sha256={'0' * 64}")
    with pytest.raises(ModelError, match=f"not {'0' * 64}"):
        load_detector(config, wrong)


def test_without_weights_those_of_torchvision_are_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    config = RunConfig(cache_dir=str(tmp_path), device="cpu")
    with pytest.raises(ModelError, match=r"ssdlite320_mobilenet_v3_large_coco-a79551df\.pth") as e:
        load_detector(config, PretaggingConfig(model=SSDLITE))
    assert e.value.hint == "give a local file with `weights: FILE` in pretagging_config"


def test_norms_are_those_that_torchvision_builds_for_its_weights(tmp_path, monkeypatch):
    """It leaves out the epsilon for some; only building them with weights shows which."""
    name = "fasterrcnn_resnet50_fpn"
    ours = build(PretaggingConfig(model=name), 91)
    state = {
        key: torch.rand(value.shape) + 0.5 if key.endswith("running_var") else value
        for key, value in ours.state_dict().items()
    }
    weights = get_model_weights(name).DEFAULT
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(state, folder / weights.url.rpartition("/")[2])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    theirs = get_model(name, weights=weights, weights_backbone=None).eval()
    ours.load_state_dict(state)
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected, found = theirs.backbone(image), ours.eval().backbone(image)
    assert all(torch.equal(found[level], expected[level]) for level in expected)
    assert all(value.isfinite().all() for value in found.values())


def test_the_default_is_a_detector():
    assert PretaggingConfig().model in detector_names()


SIDES = st.integers(1, 5000)


@given(height=SIDES, width=SIDES, shortest=st.integers(32, 900), more=st.integers(0, 900))
def test_torchvision_leaves_images_of_our_sizes_as_they_are(height, width, shortest, more):
    """Its transform resizes by min(shortest / short side, longest / long side)."""
    size = InputSize(None, shortest, shortest + more, 32)
    resized = size.of(height, width)
    assert min(shortest / min(resized), (shortest + more) / max(resized)) == 1.0
    padded = size.padded(resized)
    assert all(0 <= outer - inner < 32 for outer, inner in zip(padded, resized, strict=True))
    assert padded[0] % 32 == padded[1] % 32 == 0
