import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lightly_fs.embedding.checkpoint import load_state, read_state
from lightly_fs.errors import ModelError


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = OrderedDict(
        conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), pool=nn.AdaptiveAvgPool2d(1)
    )
    return nn.Sequential(layers).eval()


def output(module: nn.Module) -> Tensor:
    with torch.inference_mode():
        return module(torch.ones(1, 3, 8, 8))


@pytest.fixture
def trained() -> nn.Sequential:
    return network(seed=1)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "state_dict_ema"])
def test_reads_a_torch_checkpoint_in_its_usual_wrappers(tmp_path, trained, wrapper):
    state = trained.state_dict()
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "weights.pth")
    read = read_state(tmp_path / "weights.pth")
    assert read.keys() == state.keys()
    assert torch.equal(read["conv.weight"], state["conv.weight"])


def test_reads_safetensors_whatever_the_file_is_called(tmp_path, trained):
    save_file(trained.state_dict(), tmp_path / "weights.bin")
    read = read_state(tmp_path / "weights.bin")
    assert torch.equal(read["norm.weight"], trained.state_dict()["norm.weight"])


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))]
)
def test_never_executes_what_a_checkpoint_holds(tmp_path, write):
    write({"state_dict": {}, "boom": Bomb(tmp_path / "ran")}, tmp_path / "weights.ckpt")
    with pytest.raises(ModelError, match=r"weights\.ckpt"):
        read_state(tmp_path / "weights.ckpt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 cut", b"\x10\0\0\0\0\0\0\0{}", b"\x80garbage"]
)
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.pth"):
        read_state(tmp_path / "weights.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"there is no weights file .*nothing\.pth"):
        read_state(tmp_path / "nothing.pth")


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match="no named tensors"):
        read_state(tmp_path / "weights.pth")


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone.", "_orig_mod."])
def test_loads_through_the_prefixes_of_training_programs(trained, prefix):
    state = {prefix + name: value for name, value in trained.state_dict().items()}
    fresh = network(seed=2)
    assert load_state(fresh, state) is None
    assert torch.equal(output(fresh), output(trained))


def test_loads_the_backbone_of_a_self_supervised_checkpoint_and_leaves_its_head(trained):
    backbone = nn.Sequential(*trained.children())
    state = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    state["projection_head.layers.0.weight"] = torch.zeros(2, 2)
    fresh = network(seed=2)
    assert load_state(fresh, state) is None
    assert torch.equal(output(fresh), output(trained))


def test_half_precision_weights_become_float32(trained):
    fresh = network(seed=2)
    assert load_state(fresh, {n: t.half() for n, t in trained.state_dict().items()}) is None
    assert output(fresh).dtype == torch.float32
    assert torch.allclose(output(fresh), output(trained), atol=1e-2)


def test_the_classifier_may_be_in_the_file(trained):
    state = {**trained.state_dict(), "fc.weight": torch.zeros(7, 4)}
    assert load_state(network(seed=2), state, head=["fc"]) is None


def test_says_what_does_not_fit_and_loads_nothing(trained):
    state = dict(trained.state_dict())
    del state["norm.bias"]
    state["conv.weight"] = torch.zeros(4, 3, 5, 5)
    state["fc.weight"] = torch.zeros(7, 4)
    fresh = network(seed=2)
    problem = load_state(fresh, state)
    assert problem == (
        "norm.bias missing; conv.weight (4, 3, 5, 5) instead of (4, 3, 3, 3) of another shape; "
        "fc.weight unexpected"
    )
    assert torch.equal(output(fresh), output(network(seed=2)))
