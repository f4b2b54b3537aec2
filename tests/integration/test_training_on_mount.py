"""Training on a mounted bucket: one GET per object, kill -9, the same weights and embeddings."""

import io
import json

import pytest
import torch

from lightly_fs import pipeline
from lightly_fs.config import load_config
from lightly_fs.types import Stage
from tests.integration.mounted_bucket import mounted_buckets

pytestmark = [pytest.mark.fuse, pytest.mark.s3, pytest.mark.slow]

WORDS = (
    *("model=timm/test_resnet.r160_in1k", "weights=random", "lightly.collate.input_size=32"),
    *("device=cpu", "enable_training=True", "lightly.loader.num_workers=1"),
    *("lightly.loader.batch_size=8", "lightly.trainer.max_epochs=3", "--json"),
    "stopping_condition.n_samples=0.5",
)


@pytest.fixture(scope="module")
def buckets(s3, images, tmp_path_factory):
    with mounted_buckets(s3, images, tmp_path_factory.mktemp("mounted")) as both:
        yield both


def run(buckets, name: str, cache) -> dict:
    done = buckets.run(f"run_directory={name}", f"cache_dir={cache}", *WORDS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def reference(buckets, tmp_path_factory):
    """What an uninterrupted run says, and its cache."""
    cache = tmp_path_factory.mktemp("cache")
    return run(buckets, "reference", cache), cache


def weights(buckets, name: str):
    data = buckets.content(f"{name}/lightly_epoch_2.ckpt")
    return torch.load(io.BytesIO(data), weights_only=True)["state_dict"]


def test_the_checkpoint_lies_in_the_bucket_and_no_images_stay_behind(buckets, reference):
    result, cache = reference
    manifest = json.loads(buckets.content("reference/manifest.json"))
    names = {entry["name"] for entry in manifest["entries"]}

    assert {"lightly_epoch_2.ckpt", "data/training.json"} <= names
    assert len(result["training"]) == 5  # before, three epochs, and averaged in the end
    assert not list((cache / "training").iterdir())


def test_every_object_is_read_once(buckets, tmp_path):
    """Three epochs, their measures and the embeddings cost one GET for every object."""
    config = load_config(
        [
            *(f"input_dir={buckets.input_dir}", f"output_dir={buckets.output_dir}"),
            *("run_directory=counted", f"cache_dir={tmp_path}", "properties=off", "shard_size=4"),
            *(word for word in WORDS if word != "--json"),
        ]
    )
    result = pipeline.run(config, buckets.environ, until=Stage.EMBED)
    listed = buckets.s3.client().list_objects_v2(Bucket=buckets.source)["Contents"]
    images = [one for one in listed if not one["Key"].endswith(".txt")]

    assert result.read_through == "object"
    assert result.requests["GET"] == len(images) == 29


@pytest.mark.parametrize("sign", ["config/run.json", "lightly_epoch_0.ckpt", "parts/embed"])
def test_a_killed_training_is_resumed_and_ends_the_same(buckets, reference, tmp_path, sign):
    name = f"killed-at-{sign.replace('/', '-')}"
    words = (f"run_directory={name}", f"cache_dir={tmp_path / 'cache'}", *WORDS)
    process = buckets.start(*words, log=tmp_path / "log")
    buckets.wait_for_key(f"{name}/{sign}", process)
    process.kill()
    process.wait()
    assert f"{name}/manifest.json" not in buckets.keys()

    resumed = run(buckets, name, tmp_path / "cache")
    expected, found = weights(buckets, "reference"), weights(buckets, name)

    assert resumed["training"] == reference[0]["training"]
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    for table in ("embeddings.csv", "selected_embeddings.csv", "training.json"):
        assert buckets.content(f"reference/data/{table}") == buckets.content(f"{name}/data/{table}")
