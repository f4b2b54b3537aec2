import logging
import os
import sys
import time

import numpy as np
import pytest
import timm as timm_package
import torch
from safetensors.torch import save_file

from lightly_fs.config.run import RunConfig
from lightly_fs.embedding import bundled, lightly_resnet
from lightly_fs.embedding.load import load_bundled, load_embedder, load_network
from lightly_fs.errors import ConfigError, MissingExtraError, ModelError
from tests.unit.embedding.networks import pixels


@pytest.fixture
def config(tmp_path):
    def make(**values) -> RunConfig:
        given = {"cache_dir": str(tmp_path / "cache"), "shared_dir": str(tmp_path), **values}
        return RunConfig.model_validate(given)

    return make


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    state = timm_package.create_model("test_resnet", pretrained=False).state_dict()
    save_file(state, tmp_path / "test_resnet.safetensors")
    return tmp_path / "test_resnet.safetensors"


def test_the_bundled_model_needs_no_download_and_embeds(config):
    embedder = load_embedder(config(runtime="torch", device="cpu"))
    info = embedder.info
    assert (info.name, info.input_size, info.dimensions) == (
        "bundled",
        bundled.INPUT_SIZE,
        bundled.DIMENSIONS,
    )
    vectors = embedder.embed(pixels(3, bundled.INPUT_SIZE), ["a", "b", "c"])
    assert vectors.shape == (3, bundled.DIMENSIONS)
    assert np.isfinite(vectors).all()


def test_weights_of_another_network_are_refused_by_the_bundled_model(weights):
    with pytest.raises(ModelError, match=r"test_resnet\.safetensors does not fit the bundled"):
        load_bundled(weights)


def test_other_weights_for_the_bundled_network_are_taken(tmp_path):
    torch.manual_seed(0)
    save_file(bundled.stored_state(bundled.BundledNet()), tmp_path / "mine.safetensors")
    assert (
        load_bundled(tmp_path / "mine.safetensors").weights_sha256()
        != load_bundled().weights_sha256()
    )


def test_the_bundled_weights_have_one_hash_wherever_they_come_from(tmp_path):
    module = load_bundled().module
    torch.save(module.state_dict(), tmp_path / "copy.pth")
    assert load_bundled(tmp_path / "copy.pth").weights_sha256() == load_bundled().weights_sha256()


@pytest.mark.parametrize(
    ("model", "name"),
    [("test_resnet", "timm/test_resnet"), ("timm/test_resnet", "timm/test_resnet")],
)
def test_local_weights_are_found_by_path_or_below_the_shared_directory(
    config, weights, model, name
):
    by_path = load_network(config(model=model, weights=str(weights)))
    as_checkpoint = load_network(config(model=model, checkpoint="test_resnet.safetensors"))
    assert by_path.name == as_checkpoint.name == name
    assert by_path.weights_sha256() == as_checkpoint.weights_sha256()


def test_a_name_that_only_torchvision_has_is_found_there(config):
    network = load_network(config(model="shufflenet_v2_x0_5", weights="random"))
    assert network.name == "torchvision/shufflenet_v2_x0_5"


def test_random_weights_are_the_same_every_time_and_say_so(config, caplog):
    before = torch.random.get_rng_state()
    first = load_network(config(model="test_resnet", weights="random"))
    second = load_network(config(model="test_resnet", weights="random"))
    assert first.weights_sha256() == second.weights_sha256()
    assert torch.equal(before, torch.random.get_rng_state())
    assert "weights=random: the embeddings of test_resnet mean nothing" in caplog.text


def test_an_unknown_model_names_the_nearest(config):
    with pytest.raises(ModelError, match="there is no model `timm/resnet81`") as caught:
        load_network(config(model="timm/resnet81"))
    assert "timm/resnet18" in caught.value.hint.split()


def test_a_suggestion_has_the_prefix_that_was_typed(config):
    for prefix in ("timm/", "torchvision/", ""):
        with pytest.raises(ModelError) as caught:
            load_network(config(model=f"{prefix}resnet18x"))
        assert caught.value.hint.startswith(f"did you mean {prefix}resnet18")


def test_the_name_in_a_checkpoint_stays_on_one_line(config, tmp_path):
    state = {"w": torch.ones(2)}
    trained(tmp_path / "x.ckpt", state, "timm/resnet18\n\x1b[31mboo", 64)
    with pytest.raises(ModelError) as caught:
        load_network(config(checkpoint="x.ckpt"))
    assert caught.value.message == "there is no model `timm/resnet18\\n\\x1b[31mboo`"
    with pytest.raises(ModelError) as caught:
        load_network(config(checkpoint="x.ckpt", model="timm/test_resnet"))
    assert caught.value.hint.isprintable()


def test_a_checkpoint_of_a_training_that_diverged_is_refused(config, tmp_path):
    variant = lightly_resnet.Variant("resnet-9", 0.0625, 16)
    state = lightly_resnet.build_module(variant).state_dict()
    state["3.0.conv1.weight"][0] = torch.nan
    torch.save({f"model.backbone.{n}": value for n, value in state.items()}, tmp_path / "x.ckpt")
    with pytest.raises(ModelError, match=r"x\.ckpt has NaN .* in `3\.0\.conv1\.weight`"):
        load_network(config(checkpoint="x.ckpt"))


@pytest.mark.parametrize("key", ["embeddings", "checkpoint", "weights"])
def test_a_pipe_is_refused_before_it_is_opened(config, tmp_path, key):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match=r"/pipe is no readable .* file: it is a pipe"):
        load_embedder(config(**{key: str(tmp_path / "pipe")}))


def test_weights_that_cannot_be_fetched_fail_soon_and_name_the_ways_out(config, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"timm/test_resnet.* cannot be fetched") as caught:
        load_network(config(model="test_resnet"))
    assert time.monotonic() - started < 15
    assert "weights=" in caught.value.hint
    assert "model=bundled" in caught.value.hint


def test_two_origins_of_weights_exclude_one_another(config):
    with pytest.raises(ConfigError, match="checkpoint and weights exclude one another"):
        load_embedder(config(checkpoint="a.pth", weights="b.pth"))


def test_an_embeddings_file_takes_the_place_of_a_model(config, tmp_path):
    (tmp_path / "v.csv").write_text("filenames,embedding_0,labels\na.jpg,1.5,0\n")
    embedder = load_embedder(config(embeddings="v.csv"), ["a.jpg"])
    assert embedder.embed(pixels(1, 128), ["a.jpg"]).tolist() == [[1.5]]


@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        ("nonsense", ConfigError, "device=nonsense is unknown"),
        ("cuda:99", ModelError, "device=cuda:99, but torch sees"),
    ],
)
def test_the_device_is_checked_where_no_model_runs(config, tmp_path, device, error, message):
    (tmp_path / "v.csv").write_text("filenames,embedding_0,labels\na.jpg,1.5,0\n")
    with pytest.raises(error, match=message):
        load_embedder(config(embeddings="v.csv", device=device), ["a.jpg"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_cuda_device_names_the_way_out(config):
    with pytest.raises(ModelError, match="device=cuda, but torch sees no CUDA devices") as caught:
        load_embedder(config(model="colour-grid", device="cuda"))
    assert "device=cpu" in caught.value.hint


@pytest.mark.parametrize("values", [{"device": "tpu"}, {"device": "cuda", "runtime": "openvino"}])
def test_contradictions_about_the_device_are_refused(config, values):
    with pytest.raises(ConfigError):
        load_embedder(config(model="colour-grid", **values))


def test_without_openvino_auto_takes_torch_and_tells_what_to_install(config, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with caplog.at_level(logging.INFO):
        embedder = load_embedder(config(model="colour-grid", device="cpu"))
    assert embedder.info.runtime == "torch cpu"
    assert "pip install 'lightly-fs[openvino]'" in caplog.text
    with pytest.raises(MissingExtraError):
        load_embedder(config(model="colour-grid", runtime="openvino"))


def test_auto_takes_openvino_where_there_is_no_gpu(config):
    pytest.importorskip("lightly_fs.embedding.openvino_runtime").import_openvino()
    assert load_embedder(config(model="colour-grid", device="cpu")).info.runtime == "openvino cpu"


def test_the_colour_grid_tells_colours_apart_and_no_flat_image_is_a_zero_vector(config):
    embedder = load_embedder(config(model="colour-grid", runtime="torch", device="cpu"))
    flat = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1).expand(256, 64, 64, 3)
    vectors = embedder.embed(flat.contiguous(), [])
    assert vectors.shape == (256, 48)
    assert (np.linalg.norm(vectors, axis=1) > 0).all()
    assert (np.diff(vectors[:, 0]) > 0).all()


def trained(path, state, model: str, size: int) -> None:
    """Write a checkpoint as our training does."""
    named = {f"model.backbone.{name}": value for name, value in state.items()}
    named["model.projection_head.layers.0.weight"] = torch.zeros(8, 8)
    content = {"state_dict": named, "lightly_fs": {"model": model, "input_size": size}, "epoch": 1}
    torch.save({**content, "optimizer_states": [{"param_groups": [{"lr": 0.1}]}]}, path)


def test_a_checkpoint_of_ours_needs_no_model(config, tmp_path):
    torch.manual_seed(0)
    state = timm_package.create_model("test_resnet", pretrained=False, num_classes=0).state_dict()
    trained(tmp_path / "lightly_epoch_1.ckpt", state, "timm/test_resnet", 96)
    network = load_network(config(checkpoint="lightly_epoch_1.ckpt"))
    assert (network.name, network.input_size) == ("timm/test_resnet", 96)
    assert torch.equal(network.module.conv1[0].weight, state["conv1.0.weight"])
    named = load_network(config(checkpoint="lightly_epoch_1.ckpt", model="timm/test_resnet"))
    assert named.weights_sha256() == network.weights_sha256()


def test_a_checkpoint_of_the_bundled_network_keeps_the_size_that_it_was_trained_with(
    config, tmp_path
):
    trained(tmp_path / "x.ckpt", load_bundled().module.state_dict(), "bundled", 96)
    network = load_network(config(checkpoint="x.ckpt"))
    assert (network.name, network.input_size) == ("bundled", 96)
    assert network.weights_sha256() == load_bundled().weights_sha256()


def test_a_checkpoint_of_ours_under_another_name_says_what_it_holds(config, weights, tmp_path):
    trained(tmp_path / "x.ckpt", load_bundled().module.state_dict(), "bundled", 64)
    with pytest.raises(ModelError, match="do not fit timm/test_resnet") as caught:
        load_network(config(checkpoint="x.ckpt", model="test_resnet"))
    assert caught.value.hint == "leave model= out: the file holds bundled"


def test_a_checkpoint_of_lightly_under_another_name_says_what_it_holds(config, tmp_path):
    variant = lightly_resnet.Variant("resnet-9", 0.0625, 16)
    state = lightly_resnet.build_module(variant).state_dict()
    torch.save({f"model.backbone.{n}": value for n, value in state.items()}, tmp_path / "x.ckpt")
    assert load_network(config(checkpoint="x.ckpt")).name == str(variant)
    with pytest.raises(ModelError, match="do not fit timm/test_resnet") as caught:
        load_network(config(checkpoint="x.ckpt", model="test_resnet"))
    assert caught.value.hint == "leave model= out: the file holds lightly/resnet-9/d16/w0.0625"


def test_weights_without_a_model_name_the_one_they_look_like(config, tmp_path):
    state = timm_package.create_model("resnet18", pretrained=False).state_dict()
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(ModelError, match="does not fit the bundled model: ") as caught:
        load_network(config(checkpoint="x.pth"))
    assert "model=timm/resnet18" in caught.value.hint
    with pytest.raises(ModelError, match="do not fit timm/test_resnet") as caught:
        load_network(config(checkpoint="x.pth", model="timm/test_resnet"))
    assert caught.value.hint == "the names in the file are those of timm/resnet18"
