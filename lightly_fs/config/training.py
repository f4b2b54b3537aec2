"""The `lightly.*` keys: how an embedding model is trained on the user's own images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal, get_origin

from pydantic import Field, ValidationInfo, field_validator

from lightly_fs.config.frozen import Frozen

Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, le=1)]

_WIDEST = 65_536
"""Dimensions: more than any network has, and few enough that sizes never overflow."""
_LARGEST_SEED = 2**63 - 1
"""What torch takes."""
_STRONGEST_BLUR = 100


class Finite(Frozen):
    """A group of keys whose numbers are finite: bounds alone let NaN through."""

    @field_validator("*", mode="before")
    @classmethod
    def _finite(cls, value: object, info: ValidationInfo) -> object:
        field = cls.model_fields[info.field_name or ""]
        is_choice = get_origin(field.annotation) is Literal
        if is_choice or all(math.isfinite(number) for number in _numbers(value)):
            return value
        words = [
            f"{word} {getattr(bound, name)}"
            for name, word in (("gt", "above"), ("ge", "at least"), ("le", "at most"))
            for bound in field.metadata
            if hasattr(bound, name)
        ]
        raise ValueError(", ".join(["a finite number is expected", *words]))


def _numbers(value: object) -> Iterator[float]:
    """Yield the numbers of a value as they will be read: `nan` and `1e30` come as text."""
    for one in value if isinstance(value, list | tuple) else (value,):
        if isinstance(one, float):
            yield one
        elif isinstance(one, str):
            try:
                yield float(one)
            except ValueError:
                continue


class LoaderConfig(Finite):
    """How the images come to the model."""

    batch_size: int = Field(
        16,
        ge=1,
        le=65_536,
        description="Images per training step and device; each gives two views.",
    )
    shuffle: bool = Field(default=True, description="Draw a new order for every epoch.")
    num_workers: int = Field(
        -1,
        ge=-1,
        le=1024,
        description="Processes that augment; -1: one per core, 0: none of their own.",
    )
    drop_last: bool = Field(
        default=True, description="Leave out the last batch of an epoch when it is not full."
    )


class NetworkConfig(Finite):
    """Which network is trained."""

    name: Literal[
        "", "resnet-9", "resnet-18", "resnet-34", "resnet-50", "resnet-101", "resnet-152"
    ] = Field(
        "", description="Train this ResNet; empty: the run's own `model`, which is `bundled`."
    )
    out_dim: int = Field(
        128, ge=2, le=_WIDEST, description="Dimensions of the projection that the loss compares."
    )
    num_ftrs: int = Field(
        32, ge=1, le=_WIDEST, description="Embedding dimensions of the ResNet in `name`."
    )
    width: int = Field(
        1, ge=1, le=16, description="The ResNet in `name` has so many times its channels."
    )
    start_share: Probability = Field(
        0.75,
        description="After the last epoch, the weights of before and after training are averaged "
        "(WiSE-FT); so large is the share of those of before, unless they were random.",
    )
    normalize_covariance: bool = Field(
        default=True,
        description="After the last epoch, end the network with a linear layer that evens out how "
        "much random views of an image differ (within-class covariance normalisation).",
    )


class CriterionConfig(Finite):
    """The NT-Xent loss."""

    temperature: float = Field(
        0.5, ge=0.001, le=1000, description="Temperature of the NT-Xent loss."
    )
    memory_bank_size: int = Field(
        0,
        ge=0,
        le=1_048_576,
        description="Earlier projections that serve as negatives (MoCo); 0: the batch.",
    )


class OptimizerConfig(Finite):
    """Stochastic gradient descent without momentum."""

    lr: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="Learning rate for a batch of 256: lr x images per step / 256.",
    )
    weight_decay: float = Field(
        1e-5, ge=0, le=1, description="Weight decay; biases and norms have none."
    )


class TrainerConfig(Finite):
    """How long, on what, how exactly."""

    gpus: int = Field(
        1,
        ge=-1,
        le=128,
        description="GPUs; -1: all; with device=cpu so many processes; 0: the CPU.",
    )
    max_epochs: int = Field(100, ge=0, le=1_000_000, description="Passes over the images.")
    precision: Literal[16, 32] = Field(
        32, description="16: mixed precision (float16 or bfloat16 with float32 weights)."
    )


class CollateConfig(Finite):
    """The random views of an image, made by `SimCLRTransform` of lightly."""

    input_size: int | None = Field(
        None,
        ge=8,
        le=4096,
        description="Side of the views and of what is embedded, pixels; default: the model's.",
    )
    cj_prob: Probability = Field(0.8, description="How often colours are jittered.")
    cj_bright: Strength = Field(0.7, description="How much brightness is jittered.")
    cj_contrast: Strength = Field(0.7, description="How much contrast is jittered.")
    cj_sat: Strength = Field(0.7, description="How much saturation is jittered.")
    cj_hue: Strength = Field(0.2, description="How much hue is jittered; from 0.5 on, fully.")
    min_scale: float = Field(
        0.15, gt=0, le=1, description="Smallest share of the image's area that a crop takes."
    )
    random_gray_scale: Probability = Field(0.2, description="How often a view is grey.")
    gaussian_blur: Probability = Field(0.5, description="How often a view is blurred.")
    kernel_size: Annotated[float, Field(ge=0, le=4096)] | None = Field(
        None, description="Without effect, as in lightly: `sigmas` says how strong the blur is."
    )
    sigmas: tuple[float, float] = Field(
        (0.2, 2.0),
        description="Range of the blur's standard deviation in pixels, at most 100.",
    )
    vf_prob: Probability = Field(0.0, description="How often a view is flipped vertically.")
    hf_prob: Probability = Field(0.5, description="How often a view is flipped horizontally.")
    rr_prob: Probability = Field(0.0, description="How often a view is rotated.")
    rr_degrees: float | tuple[float, float] | None = Field(
        None, description="Rotate by up to so many degrees, or in [from,to]; empty: by 90."
    )

    @field_validator("sigmas")
    @classmethod
    def _range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1] <= _STRONGEST_BLUR:
            raise ValueError(
                f"two positive numbers up to {_STRONGEST_BLUR} are expected, the smaller one first"
            )
        return value

    @field_validator("rr_degrees")
    @classmethod
    def _angles(
        cls, value: float | tuple[float, float] | None
    ) -> float | tuple[float, float] | None:
        low, high = value if isinstance(value, tuple) else (0.0, value or 0.0)
        if low > high or max(abs(low), abs(high)) > 360:
            raise ValueError("an angle from 0 to 360 is expected, or [from,to] in that order")
        return value


class CheckpointCallbackConfig(Finite):
    """Which checkpoints stay in the run directory."""

    save_last: bool = Field(
        default=True, description="The last one stays in any case: the embeddings are made with it."
    )
    save_top_k: int = Field(
        1,
        ge=-1,
        le=1_000_000,
        description="So many with the lowest loss stay beside the last; -1: all.",
    )


class SummaryCallbackConfig(Finite):
    """What the log says about the network."""

    max_depth: int = Field(
        1,
        ge=-1,
        le=1000,
        description="Levels of the network's layers in the log; 0: none, -1: all.",
    )


class TrainingConfig(Finite):
    """All keys of `lightly.*`; they count when `enable_training=True`."""

    loader: LoaderConfig = Field(default_factory=LoaderConfig)
    model: NetworkConfig = Field(default_factory=NetworkConfig)
    criterion: CriterionConfig = Field(default_factory=CriterionConfig)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = Field(default_factory=TrainerConfig)
    collate: CollateConfig = Field(default_factory=CollateConfig)
    checkpoint_callback: CheckpointCallbackConfig = Field(default_factory=CheckpointCallbackConfig)
    summary_callback: SummaryCallbackConfig = Field(default_factory=SummaryCallbackConfig)
    seed: int = Field(
        1, ge=0, le=_LARGEST_SEED, description="Seed of new weights, orders and views."
    )
    pre_trained: bool = Field(
        default=True,
        description="Start from the weights of `model`; the ResNets of `lightly.model` have none.",
    )
