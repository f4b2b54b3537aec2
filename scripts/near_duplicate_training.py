"""The second part of training the bundled model: images and their near duplicates come together.

Supervised training leaves an image as far from its mirror image as from another of its class. Here
every image is paired with a near duplicate: cropped, mirrored, re-compressed, in another light or
at half its resolution. A pair is to be found among all pairs of the batch (InfoNCE; van den Oord et
al., *Representation Learning with Contrastive Predictive Coding*, 2018), while both images go on
being classified.

At the end the embedding is turned so that what near duplicates still differ in counts less: within-
class covariance normalisation (Hatch et al., *Within-class covariance normalization for SVM-based
speaker recognition*, 2006), the class being an image and its near duplicates. That is a linear map;
it becomes part of the last layer and costs nothing.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from labelled_images import Labels
from safetensors.torch import save_file
from supervised_training import Config, Run
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its name everywhere
from train_images import Augmentation, as_images, normalise, random_colour, random_crop

from lightly_fs.embedding import bundled
from lightly_fs.embedding.bundled import INPUT_SIZE, BundledNet

SCATTER_FROM = 12_288


@dataclasses.dataclass(frozen=True)
class RefinementConfig(Config):
    """As `Config`, for the second part; shares are of images."""

    epochs: float = 4.0
    batch: int = 192
    muon_learning_rate: float = 0.01
    learning_rate: float = 1.5e-3
    warmup: float = 0.05
    ema_decay: float = 0.995
    sizes: tuple[tuple[float, int], ...] = ((1.0, INPUT_SIZE),)
    augmentation: Augmentation = dataclasses.field(
        default_factory=lambda: Augmentation(smallest_crop=0.6, jitter=0.3, gray=0.05)
    )
    state: str = "refined.pt"
    contrast: float = 2.0  # weight of InfoNCE beside the cross-entropy
    temperature: float = 0.1
    coarse: float = 0.15  # both images of the pair at half the resolution
    half: float = 0.4  # the copy alone
    jpeg: float = 0.3
    ridge: float = 0.3  # of the mean variance, added to the scatter before it is inverted
    before: float = 30.0  # epochs of the first part


def halved(images: Tensor) -> Tensor:
    """Down to half the resolution and back."""
    size = images.shape[-1]
    small = F.interpolate(images, (size // 2, size // 2), mode="bilinear", antialias=True)
    return F.interpolate(small, (size, size), mode="bilinear")


def recompressed(images: Tensor, rng: torch.Generator) -> Tensor:
    """JPEG of quality 30 to 70 and back."""
    pixels = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous()
    qualities = torch.randint(30, 71, (len(images),), generator=rng, device=images.device)
    decoded = [
        simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(one, quality=quality))
        for one, quality in zip(pixels.cpu().numpy(), qualities.tolist(), strict=True)
    ]
    return as_images(torch.from_numpy(np.stack(decoded)).to(images.device))


def pairs(pixels: Tensor, config: RefinementConfig, rng: torch.Generator) -> Tensor:
    """(N, S, S, 3) uint8 to normalised (2 N, 3, S, S): the images, then their near duplicates."""
    n, images = len(pixels), as_images(pixels)

    def some(share: float) -> Tensor:
        return torch.rand(n, generator=rng, device=images.device) < share

    coarse = some(config.coarse)
    images[coarse] = halved(images[coarse])
    copies, half, jpeg = images.clone(), some(config.half), some(config.jpeg)
    copies[half] = halved(copies[half])
    if jpeg.any():
        copies[jpeg] = recompressed(copies[jpeg], rng)
    copies = random_crop(copies, INPUT_SIZE, config.augmentation.smallest_crop, rng)
    copies = random_colour(copies, config.augmentation, rng)
    return torch.cat([normalise(images), normalise(copies)])


def info_nce(embeddings: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each image's copy among all copies, and back."""
    first, second = F.normalize(embeddings).chunk(2)
    logits = first @ second.T / temperature
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


class Refinement(Run):
    """The second part: another loss on another batch."""

    config: RefinementConfig

    def refine(self, trained: nn.Module) -> BundledNet:
        """Go on from the averaged network of the first part; return what is to be shipped."""
        if not self.seen:
            self.start(trained)
        net = self.train().get_submodule("net")
        if not isinstance(net, BundledNet):
            raise TypeError(f"a BundledNet is expected, not {type(net).__name__}")
        self.normalise_scatter(net)
        return net

    def start(self, trained: nn.Module) -> None:
        """Take over the weights of the first part."""
        for net in (*self.replicas, self.average.twin):
            net.load_state_dict(trained.state_dict())

    def gradients(self, worker: int, rows: Labels, size: int, seed: int) -> tuple[Tensor, ...]:  # noqa: ARG002
        device = self.config.device
        rng = torch.Generator(device).manual_seed(seed)
        index = torch.from_numpy(rows).to(device)
        inputs = pairs(self.images[index], self.config, rng)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        replica = self.replicas[worker]
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            embeddings = replica.get_submodule("net")(inputs)
        embeddings = embeddings.float()
        logits = replica.get_submodule("classifier")(embeddings)
        smoothing = self.config.label_smoothing
        loss = F.cross_entropy(logits, self.labels[index].repeat(2), label_smoothing=smoothing)
        loss = loss + self.config.contrast * info_nce(embeddings, self.config.temperature)
        return (loss.detach(), *torch.autograd.grad(loss, self.parameters))

    def measure_statistics(self) -> None:
        """Keep the averaged statistics of images and copies.

        Those of images alone, as in the first part, cost classes that were never seen a point.
        """

    @torch.no_grad()
    def normalise_scatter(self, net: BundledNet) -> None:
        """Multiply embeddings by S^-1/2, S the covariance of what near duplicates differ in."""
        rng = torch.Generator(self.config.device).manual_seed(self.config.seed)
        rows = np.random.default_rng(self.config.seed).permutation(self.train_on)[:SCATTER_FROM]
        differences = []
        for part in np.array_split(rows, max(1, len(rows) // 128)):
            index = torch.from_numpy(part).to(self.config.device)
            first, second = net(pairs(self.images[index], self.config, rng)).chunk(2)
            differences.append((second - first).double())
        apart = torch.cat(differences)
        values, vectors = torch.linalg.eigh(apart.T @ apart / len(apart))
        values = (values + self.config.ridge * values.mean()).rsqrt()
        fold(net, (vectors * (values / values.mean())) @ vectors.T)


@torch.no_grad()
def fold(net: BundledNet, matrix: Tensor) -> None:
    """Make a (D, D) map of the embeddings part of the last layer and its batch norm."""
    linear, norm = net.projection
    if not isinstance(linear, nn.Linear) or not isinstance(norm, nn.BatchNorm1d):
        raise TypeError("the projection is no linear layer with a batch norm")
    if norm.running_var is None or norm.running_mean is None:
        raise ValueError("the batch norm has no statistics")
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = norm.bias.double() - norm.running_mean.double() * scale
    linear.weight.copy_(matrix @ (scale[:, None] * linear.weight.double()))
    norm.weight.fill_(1.0)
    norm.bias.copy_(matrix @ bias)
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0 - norm.eps)


def save(net: BundledNet, out: Path, config: RefinementConfig) -> None:
    """Write the weights as the package ships them."""
    state = bundled.stored_state(net)
    bad = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if bad:
        raise ValueError(f"weights that float16 cannot hold: {bad[:3]}")
    partial = out.with_name(out.name + ".partial")
    save_file(state, partial, metadata(config))
    partial.chmod(0o644)
    partial.replace(out)


def metadata(config: RefinementConfig) -> dict[str, str]:
    """Return what a weights file says of itself."""
    epochs = f"{config.before:g} epochs, then {config.epochs:g} with near duplicates"
    return {
        "name": "bundled",
        "version": "3",
        "architecture": bundled.ARCHITECTURE,
        "input_size": str(INPUT_SIZE),
        "dimensions": str(bundled.DIMENSIONS),
        "mean": json.dumps(bundled.MEAN),
        "std": json.dumps(bundled.STD),
        "resize": "squash to input_size, bilinear, antialiased",
        "training_data": "Tiny ImageNet train, 60,000 images of 64x64, 200 classes",
        "training": f"supervised, {epochs}, seed {config.seed}",
        "licence": "trained from research-use images; see NOTICE.md beside the weights",
    }
