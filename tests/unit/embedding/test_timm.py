import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import timm as timm_package
import torch
from safetensors.torch import save, save_file

from lightly_fs.embedding import timm
from lightly_fs.embedding.checkpoint import read_state
from lightly_fs.embedding.load import check_model
from lightly_fs.errors import ModelError

NAME = "test_vit"
"""timm's own model for tests: 0.4 million parameters at 160 px."""


@pytest.fixture(scope="module")
def full():
    torch.manual_seed(3)
    return timm_package.create_model(NAME, pretrained=False).eval()


def features(module, size: int = 160):
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return module(images).numpy()


def test_an_embedding_is_what_goes_into_the_classifier(full):
    network = timm.build(NAME, full.state_dict())
    images = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = full.forward_head(full.forward_features(images), pre_logits=True)
    assert np.allclose(features(network.module), expected.numpy(), atol=1e-6)
    assert network.input_size == 160
    assert (network.name, network.mean) == (f"timm/{NAME}", (0.5, 0.5, 0.5))


def test_the_same_weights_from_another_file_have_the_same_hash(full, tmp_path):
    torch.save({"state_dict": full.state_dict()}, tmp_path / "a.pth")
    save_file(full.state_dict(), tmp_path / "b.safetensors")
    first = timm.build(NAME, read_state(tmp_path / "a.pth"))
    second = timm.build(NAME, read_state(tmp_path / "b.safetensors"))
    assert first.weights_sha256() == second.weights_sha256()


def test_originals_of_another_input_size_are_converted_as_timm_does():
    torch.manual_seed(4)
    larger = timm_package.create_model(NAME, pretrained=False, img_size=192)
    network = timm.build(NAME, larger.state_dict())
    assert features(network.module).shape == (2, network.module.num_features)


def test_weights_of_another_network_are_refused_with_the_difference():
    other = timm_package.create_model("test_resnet", pretrained=False)
    with pytest.raises(
        ModelError, match=r"do not fit timm/test_vit: cls_token.* missing"
    ) as caught:
        timm.build(NAME, other.state_dict())
    assert "model=" in caught.value.hint


def test_weights_that_lack_a_tensor_are_refused(full):
    state = dict(full.state_dict())
    del state["blocks.0.attn.qkv.weight"]
    with pytest.raises(ModelError, match=r"blocks\.0\.attn\.qkv\.weight missing"):
        timm.build(NAME, state)


def test_a_variant_that_does_not_exist_names_those_that_do():
    with pytest.raises(ModelError, match=r"resnet18\.nothing") as caught:
        timm.build("resnet18.nothing", None)
    assert "resnet18.a1_in1k" in caught.value.hint
    assert timm.has_model("resnet18.a1_in1k")
    assert not timm.has_model("no_such_net")


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does for one repository."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        body = self.server.files.get(self.path)
        self.server.requests.append(f"{self.command} {self.path}")
        self.server.silent.wait(60)
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.send_header("ETag", '"1"')
        self.send_header("X-Repo-Commit", "0" * 40)
        if body is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.server.files.get(self.path, b""))

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[ThreadingHTTPServer]:
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.requests, server.silent = {}, [], threading.Event()
    server.silent.set()
    address = f"http://127.0.0.1:{server.server_port}"
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.silent.set()
    server.shutdown()
    thread.join()
    server.server_close()


REPOSITORY = "/timm/test_resnet.r160_in1k/resolve/main"


def test_weights_come_from_the_hub_once(hub, tmp_path):
    state = timm_package.create_model("test_resnet", pretrained=False).state_dict()
    hub.files[f"{REPOSITORY}/model.safetensors"] = save(state)
    path = timm.fetch("test_resnet", tmp_path)
    network = timm.build("test_resnet", read_state(path))
    assert torch.equal(network.module.conv1[0].weight, state["conv1.0.weight"])
    hub.requests.clear()
    assert timm.fetch("test_resnet.r160_in1k", tmp_path) == path
    assert hub.requests == []


def test_a_repository_without_weights_is_named(hub, tmp_path):
    with pytest.raises(ModelError, match=r"timm/test_resnet\.r160_in1k cannot be fetched"):
        timm.fetch("test_resnet", tmp_path)
    assert any(request.endswith("pytorch_model.bin") for request in hub.requests)


def test_a_hub_that_takes_requests_and_keeps_silent_is_given_up_soon(hub, tmp_path, caplog):
    """Its own client would ask six times, ten seconds each."""
    hub.silent.clear()
    started = time.monotonic()
    with caplog.at_level(logging.INFO), pytest.raises(ModelError, match="cannot be fetched") as e:
        timm.fetch("test_resnet", tmp_path)
    assert time.monotonic() - started < 20
    assert "weights=" in e.value.hint
    assert "fetching the weights of timm/test_resnet.r160_in1k from http://127" in caplog.text


def test_a_name_that_does_not_exist_is_not_asked_for(hub, tmp_path):
    with pytest.raises(ModelError, match="there is no model `timm/resnet18x`"):
        check_model("timm/resnet18x")
    assert hub.requests == []


def test_short_names_stand_for_weights_that_exist():
    for alias, name in timm.ALIASES.items():
        assert name in timm_package.list_pretrained(), alias
        assert timm.has_model(alias)
        assert timm_package.get_pretrained_cfg(name).hf_hub_id, alias
        assert not timm_package.is_model(alias), alias


def test_dinov2_is_run_at_the_size_of_classification_and_originals_are_converted():
    original = timm_package.create_model("vit_small_patch14_dinov2", depth=1)
    state = original.state_dict()
    network = timm.build("dinov2-small", None)
    assert (network.name, network.input_size) == (
        "timm/vit_small_patch14_dinov2.lvd142m",
        224,
    )
    assert state["pos_embed"].shape == (1, 1 + 37 * 37, 384)
    full = {**network.module.state_dict(), "pos_embed": state["pos_embed"]}
    converted = timm.build("dinov2-small", full)
    assert converted.state["pos_embed"].shape == (1, 1 + 16 * 16, 384)


def test_a_network_trained_with_another_input_size_keeps_it(full):
    larger = timm_package.create_model(NAME, pretrained=False, img_size=192)
    network = timm.build(NAME, larger.state_dict(), input_size=192)
    assert network.input_size == 192
    assert features(network.module, 192).shape == (2, network.module.num_features)
    assert torch.equal(network.state["pos_embed"], larger.state_dict()["pos_embed"])


def test_a_classifier_of_other_classes_is_left_out(full):
    state = dict(full.state_dict())
    state["head.weight"], state["head.bias"] = torch.zeros(7, 96), torch.zeros(7)
    network = timm.build(NAME, state)
    assert np.allclose(
        features(network.module), features(timm.build(NAME, full.state_dict()).module)
    )
