"""Detectors without training that find things all the same, and differ from image to image."""

import numpy as np
import torch
from torch import nn
from torchvision.models import get_model

from tests.images import scene

SSDLITE = "ssdlite320_mobilenet_v3_large"
FASTER = "fasterrcnn_mobilenet_v3_large_320_fpn"
NAMES = ("cat", "dog", "bird")


def pixels(seed: int, width: int = 320, height: int = 320) -> torch.Tensor:
    """(h, w, 3) uint8."""
    return torch.from_numpy(np.array(scene(seed, width, height)))


def made(name: str, n_classes: int) -> nn.Module:
    """Return a network whose norms fit images, and whose classifier has opinions."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        module = get_model(name, weights=None, weights_backbone=None, num_classes=n_classes)
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None
        images = [pixels(100 + seed).permute(2, 0, 1) / 255 for seed in range(4)]
        features = list(module.backbone(torch.stack(images) * 2 - 1).values())
        if name == SSDLITE:
            module.head(features)
            for block in module.head.classification_head.module_list:
                block[1].weight.mul_(4)
        else:
            module.rpn.head.cls_logits.weight.mul_(20)
            _centre(module.eval(), images)
    return module.eval()


def _centre(module: nn.Module, images: list[torch.Tensor]) -> None:
    """Let the classes of proposals depend on what sets them apart from one another."""
    seen: list[torch.Tensor] = []
    hook = module.roi_heads.box_head.register_forward_hook(lambda *call: seen.append(call[2]))
    module(images)
    hook.remove()
    classifier = module.roi_heads.box_predictor.cls_score
    classifier.weight.mul_(2)
    classifier.bias.copy_(-(classifier.weight @ torch.cat(seen).mean(0)))
