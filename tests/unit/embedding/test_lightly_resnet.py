"""The expected numbers were computed by the lightly library 1.5.20 from the same tensors."""

import pytest
import torch
from torch import Tensor

from lightly_fs.embedding.checkpoint import load_state, read_state
from lightly_fs.embedding.lightly_resnet import Variant, build, build_module, recognise
from lightly_fs.embedding.load import load_weights
from lightly_fs.errors import ModelError


def filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Seeded tensors of those shapes, in that order, that keep activations near one."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
            continue
        value = torch.rand(shape, generator=generator)
        if name.endswith("running_var"):
            value = value + 0.5
        elif len(shape) == 1:
            value = value * 0.5 + 0.25 if name.endswith("weight") else value - 0.5
        else:
            value = (value - 0.5) * 2 * (3 / value[0].numel()) ** 0.5
        state[name] = value
    return state


def tensors(variant: Variant, *, n_splits: int = 1) -> dict[str, Tensor]:
    with torch.device("meta"):
        module = build_module(variant)
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    for name, shape in shapes.items():
        if "running" in name:
            shapes[name] = (shape[0] * n_splits,)
    return filled(shapes)


def save(path, state, *, prefix: str) -> None:
    named = {prefix + name: value for name, value in state.items()}
    head = {"model.projection_head.layers.0.weight": torch.zeros(32, 32)}
    optimizer = [{"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 1.0}]}]
    torch.save({"epoch": 3, "state_dict": named | head, "optimizer_states": optimizer}, path)


def embedding(module) -> Tensor:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return module(images)[1]


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (Variant("resnet-9", 0.0625, 16), (-0.083343, -0.280725, -0.030261, 0.411299)),
        (Variant("resnet-18", 0.125, 32), (-0.031013, -0.260381, 0.128185, 0.750314)),
        (Variant("resnet-34", 0.0625, 32), (-0.089667, 0.10944, 0.480955, -0.93417)),
        (Variant("resnet-50", 0.0625, 32), (1.03725, 0.010217, -1.090276, 0.801358)),
        (Variant("resnet-101", 0.0625, 16), (-1.570403, 1.393329, -0.946763, -1.039035)),
        (Variant("resnet-152", 0.0625, 16), (1.122676, 0.891115, -0.779152, 1.489181)),
    ],
    ids=str,
)
def test_a_checkpoint_is_recognised_and_gives_the_vectors_of_lightly(tmp_path, variant, expected):
    save(tmp_path / "lightly_epoch_3.ckpt", tensors(variant), prefix="model.backbone.")
    network = load_weights(tmp_path / "lightly_epoch_3.ckpt")
    assert (network.name, network.input_size) == (str(variant), 64)
    vector = embedding(network.module)
    assert vector.shape == (variant.num_ftrs,)
    assert torch.allclose(vector[:4], torch.tensor(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("n_splits", "expected"),
    [(1, (0.045207, 0.356613, 0.303824, 0.577662)), (4, (0.018562, 0.582089, 0.0, 0.0))],
)
def test_backbones_of_the_tutorials_have_neither_input_norm_nor_projection(
    tmp_path, n_splits, expected
):
    variant = Variant("resnet-18", 0.125, None, input_norm=False)
    state = tensors(variant, n_splits=n_splits)
    save(tmp_path / "moco.ckpt", state, prefix="backbone.")
    network = load_weights(tmp_path / "moco.ckpt")
    assert network.name == "lightly/resnet-18/w0.125"
    assert torch.allclose(embedding(network.module)[:4], torch.tensor(expected), atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "backbone.", "model.features.", "module.model.backbone."])
def test_what_training_put_before_the_names_is_taken_off(tmp_path, prefix):
    variant = Variant("resnet-9", 0.0625, 16)
    save(tmp_path / "weights.ckpt", tensors(variant), prefix=prefix)
    found, state = recognise(read_state(tmp_path / "weights.ckpt"))
    assert found == variant
    assert load_state(build_module(variant), state) is None


def test_the_encoder_is_taken_and_not_its_momentum_copy():
    encoder = tensors(Variant("resnet-9", 0.0625, 16))
    state = {f"backbone.{name}": value for name, value in encoder.items()}
    state |= {f"backbone_momentum.{name}": value + 1 for name, value in encoder.items()}
    _, found = recognise(state)
    assert torch.equal(found["1.weight"], encoder["1.weight"])


def test_the_default_of_the_container_has_its_name():
    assert str(Variant()) == "lightly/resnet-18/d32/w1.0"


def test_a_tensor_of_another_shape_is_named():
    variant = Variant("resnet-9", 0.0625, 16)
    state = tensors(variant)
    state["4.0.conv2.weight"] = torch.zeros(8, 8, 5, 5)
    del state["6.0.bn2.bias"]
    with pytest.raises(ModelError) as caught:
        build(variant, state, source="x.ckpt", input_size=None)
    assert caught.value.message == (
        "x.ckpt looks like lightly/resnet-9/d16/w0.0625 of the lightly library, but does not fit "
        "it: 6.0.bn2.bias missing; 4.0.conv2.weight (8, 8, 5, 5) instead of (8, 8, 3, 3) of "
        "another shape"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {name: value for name, value in state.items() if not name.startswith("6.")},
        lambda state: {f"layer{name}": value for name, value in state.items()},
        lambda state: {**state, "5.1.conv1.weight": torch.zeros(1)},
        lambda state: {**state, "1.weight": torch.tensor(1.0)},
        lambda state: {"x.0.shortcut.0.weight": torch.zeros(1)},
    ],
)
def test_other_networks_are_not_recognised(change):
    assert recognise(change(tensors(Variant("resnet-9", 0.0625, 16)))) is None


def test_it_is_what_lightly_builds_where_that_is_installed(tmp_path):
    helpers = pytest.importorskip("lightly.cli._helpers", exc_type=ImportError)
    save(tmp_path / "x.ckpt", tensors(Variant("resnet-18", 0.25, 32)), prefix="model.backbone.")
    resnet = helpers.ResNetGenerator("resnet-18", 0.25)
    backbone = torch.nn.Sequential(
        torch.nn.BatchNorm2d(3),
        *list(resnet.children())[:-1],
        torch.nn.Conv2d(resnet.linear.in_features, 32, 1),
        torch.nn.AdaptiveAvgPool2d(1),
    )
    backbone.load_state_dict(tensors(Variant("resnet-18", 0.25, 32)))
    expected = embedding(backbone.eval()).flatten()
    found = embedding(load_weights(tmp_path / "x.ckpt").module)
    assert torch.allclose(found, expected, atol=1e-5)
