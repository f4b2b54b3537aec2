import numpy as np
import pytest
import torch
import torchvision as torchvision_package

from lightly_fs.embedding import torchvision
from lightly_fs.errors import ModelError


def head_of(name: str) -> tuple[str, int]:
    with torch.device("meta"):  # nothing is initialised, which takes seconds
        module = torchvision_package.models.get_model(name, weights=None)
    head = torchvision.remove_last_layer(module)
    return head, len([each for each in module.state_dict() if each.startswith(f"{head}.")])


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet18", "fc"),
        ("mobilenet_v3_small", "classifier.3"),
        ("efficientnet_b0", "classifier.1"),
        ("shufflenet_v2_x0_5", "fc"),
        ("convnext_tiny", "classifier.2"),
        ("densenet121", "classifier"),
        ("squeezenet1_1", "classifier.1"),
        ("swin_t", "head"),
    ],
)
def test_the_layer_that_tells_the_classes_is_removed(name, head):
    assert head_of(name) == (head, 0)


def test_an_embedding_is_what_goes_into_the_last_layer():
    torch.manual_seed(0)
    full = torchvision_package.models.mobilenet_v3_small(weights=None).eval()
    network = torchvision.build("mobilenet_v3_small", full.state_dict())
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        vectors = network.module(images)
        expected = full.classifier[:3](full.avgpool(full.features(images)).flatten(1))
    assert np.allclose(vectors.numpy(), expected.numpy(), atol=1e-6)
    assert (network.name, network.input_size) == ("torchvision/mobilenet_v3_small", 224)


def test_a_backbone_that_was_trained_as_a_sequence_of_children_fits():
    torch.manual_seed(0)
    resnet = torchvision_package.models.resnet18(weights=None)
    backbone = torch.nn.Sequential(*list(resnet.children())[:-1])
    state = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    network = torchvision.build("resnet18", state)
    assert torch.equal(network.module.layer3[1].conv2.weight, resnet.layer3[1].conv2.weight)


def test_weights_of_another_network_are_refused():
    with torch.device("meta"):
        other = torchvision_package.models.resnet34(weights=None).state_dict()
    with pytest.raises(ModelError, match=r"do not fit torchvision/resnet18: .* unexpected"):
        torchvision.build("resnet18", other)


def test_names_of_1000_class_models_only_and_of_known_weights():
    assert torchvision.has_model("convnext_tiny")
    assert torchvision.has_model("resnet50.IMAGENET1K_V1")
    assert not torchvision.has_model("fcn_resnet50")
    with pytest.raises(ModelError, match=r"resnet50\.nothing") as caught:
        torchvision.build("resnet50.nothing", None)
    assert "resnet50.IMAGENET1K_V2" in caught.value.hint
