"""SimCLR: a network whose two views of an image are brought together, all others apart.

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", 2020; the
loss and the projection head are those of the `lightly` library.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lightly_fs.config.training import OptimizerConfig, TrainingConfig
from lightly_fs.embedding.checkpoint import State

REFERENCE_BATCH = 256
"""The learning rate is meant for a batch of so many images, and scaled linearly to others."""
WARM_UP = 0.05
"""Share of all steps in which the learning rate rises to its peak."""

HEAD = "model.projection_head."
"""What the names of the projection head's tensors begin with in a checkpoint."""
_FIRST = "layers.0.weight"


class SimCLR(nn.Module):
    """A network and the projection head that only training uses.

    Args:
        backbone: Normalised images (B, 3, H, W) to embeddings (B, D).
        size: Side of the views, by which D is found out.
        mean: Subtracted from RGB in [0, 1].
        std: RGB in [0, 1] is divided by it after that.
        out_dim: Dimensions of the projection.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        size: int,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        out_dim: int,
    ) -> None:
        super().__init__()
        from lightly.models.modules.heads import SimCLRProjectionHead

        mean_, std_ = torch.tensor(mean), torch.tensor(std)
        self.backbone = backbone
        self.register_buffer("mean", (mean_ * 255).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", (1 / (std_ * 255)).view(1, 3, 1, 1), persistent=False)
        self.backbone.eval()
        with torch.no_grad():
            example = self.embed(torch.zeros(1, size, size, 3, dtype=torch.uint8))
        dimensions = int(example.shape[1])
        self.projection_head: nn.Module = SimCLRProjectionHead(dimensions, dimensions, out_dim)

    def embed(self, pixels: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 to embeddings (B, D)."""
        images = (pixels.permute(0, 3, 1, 2).float() - self.mean) * self.scale
        vectors: Tensor = self.backbone(images)
        return vectors

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 2, S, S, 3) uint8 to two projections (B, P) float32."""
        # The first views, then the second ones, as one batch: its statistics cover both.
        both = self.projection_head(self.embed(views.transpose(0, 1).flatten(0, 1)))
        first, second = both.float().chunk(2)
        return first, second

    def load_head(self, state: State) -> bool:
        """Take over another training's projection head if it has the same shape."""
        own = self.projection_head.state_dict()
        if {n: v.shape for n, v in state.items()} != {n: v.shape for n, v in own.items()}:
            return False
        self.projection_head.load_state_dict(dict(state))
        return True


def behind_layer(head: State, weight: Tensor) -> State:
    """Return a projection head for embeddings that have gone through one more linear layer.

    Its first layer undoes the new one. What that adds to all embeddings alike, the head's batch
    norm takes away again.

    Args:
        head: Of `SimCLR.projection_head`.
        weight: (D, D) float64, of full rank.
    """
    undone = torch.linalg.solve(weight.T, head[_FIRST].double().T).T
    return {**head, _FIRST: undone.float()}


def criterion(settings: TrainingConfig, *, gather: bool) -> nn.Module:
    """Return the NT-Xent loss of two projections; `gather`: over the images of all processes."""
    from lightly.loss import NTXentLoss

    bank = settings.criterion.memory_bank_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        loss: nn.Module = NTXentLoss(
            settings.criterion.temperature,
            (bank, settings.model.out_dim) if bank else 0,
            gather_distributed=gather,
        )
    return loss


def optimizer(model: nn.Module, settings: OptimizerConfig) -> torch.optim.SGD:
    """Return SGD without momentum, as in the container; the rate is set step by step.

    Weight decay leaves biases and norms alone.
    """
    weights = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=0.0)


def learning_rate(settings: OptimizerConfig, batch: int, step: int, steps: int) -> float:
    """Return the rate of a step: linear warm-up, then a half cosine towards zero.

    Args:
        batch: Images per step, over all processes.
        step: From 0 to `steps` - 1.
    """
    peak = settings.lr * batch / REFERENCE_BATCH
    rising = max(1, math.ceil(WARM_UP * steps))
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def summary(module: nn.Module, depth: int) -> Iterator[str]:
    """Yield a line for every layer down to `depth` levels (-1: all): its name and parameters."""
    for name, layer in module.named_modules():
        level = name.count(".") + 1 if name else 0
        if depth == -1 or level <= depth:
            count = sum(p.numel() for p in layer.parameters())
            yield f"{'  ' * level}{name or type(layer).__name__}: {count:,} parameters"
