import os
import pickle
import tarfile
import zipfile
from argparse import Namespace
from collections import OrderedDict
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from lightly_fs.embedding.checkpoint import (
    guess_name,
    load_state,
    read_checkpoint,
    read_state,
    require_finite,
)
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


@pytest.mark.parametrize(
    ("prefix", "rest"),
    [
        ("model_ema.", {"model.conv.weight": torch.zeros(4, 3, 3, 3)}),
        ("teacher.backbone.", {"student.backbone.conv.weight": torch.zeros(4, 3, 3, 3)}),
        ("module.encoder_q.", {"module.encoder_k.conv.weight": torch.zeros(4, 3, 3, 3)}),
        ("module.", {"n_averaged": torch.tensor(5)}),
    ],
)
def test_the_averaged_or_the_trained_network_is_taken_out_of_a_method(trained, prefix, rest):
    state = {prefix + name: value for name, value in trained.state_dict().items()}
    fresh = network(seed=2)
    assert load_state(fresh, {**rest, **state}) is None
    assert torch.equal(output(fresh), output(trained))


def test_of_a_teacher_and_a_student_the_teacher_is_read(tmp_path, trained):
    content = {"student": network(seed=5).state_dict(), "teacher": trained.state_dict()}
    torch.save(content, tmp_path / "dino.pth")
    read = read_state(tmp_path / "dino.pth")
    assert torch.equal(read["conv.weight"], trained.state_dict()["conv.weight"])


def test_the_arguments_and_numbers_of_a_training_do_not_hinder(tmp_path, trained):
    content = {
        "state_dict": trained.state_dict(),
        "args": Namespace(lr=0.1, output=tmp_path),
        "best": np.float64(0.7),
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]},
    }
    torch.save(content, tmp_path / "model_best.pth.tar")
    read = read_state(tmp_path / "model_best.pth.tar")
    assert torch.equal(read["conv.weight"], trained.state_dict()["conv.weight"])
    with pytest.raises(pickle.UnpicklingError):  # elsewhere nothing is let through
        torch.load(tmp_path / "model_best.pth.tar", weights_only=True)


@pytest.mark.parametrize("name", ["os system", "posix system", "builtins eval", "shutil rmtree"])
def test_a_call_of_a_function_is_never_made(tmp_path, name):
    module, function = name.split()
    call = f"c{module}\n{function}\n(Vtouch {tmp_path / 'ran'}\ntR."
    (tmp_path / "weights.pth").write_bytes(b"\x80\x02" + call.encode())
    with pytest.raises(ModelError, match=r"weights\.pth"):
        read_state(tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()


def test_a_path_in_a_checkpoint_stays_a_name(tmp_path):
    """What stands for an object takes its arguments and does nothing with them."""
    torch.save({"state_dict": {"w": torch.ones(1)}, "dir": tmp_path / "x"}, tmp_path / "w.ckpt")
    assert read_state(tmp_path / "w.ckpt").keys() == {"w"}


def test_the_object_that_makes_a_file_unreadable_is_named(tmp_path, trained):
    torch.save({"state_dict": trained.state_dict(), "fn": torch.nn.functional.relu}, tmp_path / "w")
    with pytest.raises(
        ModelError, match=r"\(torch\.nn\.functional\.relu\), .* run any code"
    ) as caught:
        read_state(tmp_path / "w")
    assert "torch.save(" in caught.value.hint


def write_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))


def write_legacy_tar(path: Path) -> None:
    """As torch before 0.1.10: pickles in a tar archive, which may begin like a pickle."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("\udc80pickle", "storages", "tensors"):
            content = pickle.dumps(Bomb(path.parent / "ran"), 2)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, BytesIO(content))
    assert path.read_bytes()[:1] == b"\x80"


def write_cut_zip(path: Path) -> None:
    torch.save({"w": torch.zeros(5000)}, path)
    path.write_bytes(path.read_bytes()[:9000])


def write_flipped_zip(path: Path) -> None:
    """One bit of the 5,000 numbers is another one."""
    torch.save({"w": torch.zeros(5000)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def write_other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", b"")


def write_cut_safetensors(path: Path) -> None:
    save_file({"w": torch.zeros(5000)}, path)
    path.write_bytes(path.read_bytes()[:9000])


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (write_legacy_tar, "is a tar archive, no weights file"),
        (write_tar, "is a tar archive, no weights file"),
        (write_cut_zip, "is cut off: the end of its zip archive is missing"),
        (write_other_zip, "is a zip archive, but not one of torch.save"),
        (write_cut_safetensors, "is no readable weights file: "),
        (lambda path: path.write_bytes(b""), "is empty"),
        (
            lambda path: path.write_bytes(b"<!DOCTYPE html>"),
            "is a web page or XML, no weights file",
        ),
        (
            lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"),
            r"is an HDF5 file \(Keras\), no weights",
        ),
        (lambda path: path.write_bytes(b"version https://git-lfs"), "is a Git LFS pointer"),
        (lambda path: path.mkdir(), "is no readable weights file: .*directory"),
        (os.mkfifo, "is no readable weights file: it is a pipe"),
        (write_flipped_zip, "is damaged: the checksum of w/data/0 in it does not hold"),
        (
            lambda path: torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(path)),
            "is a TorchScript program, no weights file",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_what_is_no_weights_file_is_told_by_what_it_is(tmp_path, write, reason):
    write(tmp_path / "w.pth")
    with pytest.raises(ModelError, match=rf"w\.pth {reason}") as caught:
        read_state(tmp_path / "w.pth")
    assert caught.value.hint == "a .safetensors file, or a state dict written with torch.save"
    assert not (tmp_path / "ran").exists()


def test_our_trainings_say_which_network_they_trained(tmp_path, trained):
    state = {f"model.backbone.{name}": value for name, value in trained.state_dict().items()}
    record = {"model": "timm/resnet18", "input_size": 96}
    torch.save({"state_dict": state, "lightly_fs": record, "epoch": 3}, tmp_path / "w.ckpt")
    read = read_checkpoint(tmp_path / "w.ckpt")
    assert (read.model, read.input_size) == ("timm/resnet18", 96)
    assert read.state.keys() == state.keys()


@pytest.mark.parametrize(
    "record",
    [
        *({}, {"model": "x"}, {"model": 3, "input_size": 64}, "x"),
        *({"model": "x", "input_size": True}, {"model": "x", "input_size": 64.0}),
    ],
)
def test_a_record_that_is_not_ours_is_refused(tmp_path, trained, record):
    torch.save({"state_dict": trained.state_dict(), "lightly_fs": record}, tmp_path / "w.ckpt")
    with pytest.raises(ModelError, match="without a model name and an input size"):
        read_checkpoint(tmp_path / "w.ckpt")


@pytest.mark.parametrize("size", [-1, 0, 1, 7, 4097, 1 << 40])
def test_a_size_of_images_that_no_network_takes_is_refused(tmp_path, trained, size):
    record = {"model": "x", "input_size": size}
    torch.save({"state_dict": trained.state_dict(), "lightly_fs": record}, tmp_path / "w.ckpt")
    with pytest.raises(ModelError, match=rf"w\.ckpt says .* images of {size} pixels") as caught:
        read_checkpoint(tmp_path / "w.ckpt")
    assert "from 8 to 4096" in caught.value.hint


def test_an_archive_that_was_written_without_checksums_is_read(tmp_path, trained):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(trained.state_dict(), tmp_path / "w.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_state(tmp_path / "w.pth").keys() == trained.state_dict().keys()


def test_a_state_that_holds_itself_is_refused_or_read_once(tmp_path):
    state: dict[str, object] = {"w": torch.ones(2)}
    state["state_dict"] = state
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"w\.pth holds no named tensors"):
        read_state(tmp_path / "w.pth")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (Tensor.to_sparse, "sparse"),
        (lambda value: value.to("meta"), "meta"),
        (lambda value: value.to(torch.complex64), "complex"),
    ],
)
def test_tensors_that_no_network_takes_are_named(tmp_path, change, kind):
    torch.save({"state_dict": {"conv\nweight": change(torch.ones(2, 2))}}, tmp_path / "w.ckpt")
    with pytest.raises(
        ModelError, match=rf"w\.ckpt holds `conv\\nweight` as a {kind}.* tensor"
    ) as caught:
        read_state(tmp_path / "w.ckpt")
    assert "float()" in caught.value.hint


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_is_no_checkpoint_is_told_without_a_warning_of_torch(tmp_path, protocol):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": 1}, protocol))
    with pytest.raises(ModelError, match=r"w\.pth is no readable weights file"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["conv.weight", "norm.running_var", "norm.bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_named(trained, name, value):
    trained.state_dict()[name].view(-1)[-1] = value
    with pytest.raises(ModelError, match=rf"x\.pth has NaN or infinite values in `{name}`"):
        require_finite("x.pth", trained)


def test_a_mask_may_be_infinite_but_not_nan(trained):
    trained.register_buffer("mask", torch.tensor([0, -torch.inf]))
    require_finite("x.pth", trained)
    trained.mask[0] = torch.nan
    with pytest.raises(ModelError, match="`mask`"):
        require_finite("x.pth", trained)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_the_network_of_well_known_names_is_guessed(name):
    with torch.device("meta"):
        state = torchvision.models.get_model(name).state_dict()
    assert guess_name({f"module.{key}": value for key, value in state.items()}) == f"timm/{name}"


def test_a_network_without_well_known_names_is_not_guessed(trained):
    assert guess_name(trained.state_dict()) is None
