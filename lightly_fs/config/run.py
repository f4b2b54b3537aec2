"""`RunConfig`: every key of a run, its default and its meaning. No torch, no I/O."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from lightly_fs.config.datapool import DatapoolConfig, DatasourceConfig
from lightly_fs.config.frozen import Frozen
from lightly_fs.config.selection import SelectionConfig, floor_of
from lightly_fs.config.training import TrainingConfig
from lightly_fs.config.video import VideoConfig

ImageSize = int | tuple[int, int]
_NAME_BYTES = 255
_LONGEST_SIDE = 16_383  # of WebP


class CoresetMethod(StrEnum):
    CORESET = "coreset"
    RANDOM = "random"


class ReadThrough(StrEnum):
    AUTO = "auto"
    OBJECT = "object"
    MOUNT = "mount"


class PropertiesMode(StrEnum):
    SCALED = "scaled"
    FULL = "full"
    OFF = "off"


class Runtime(StrEnum):
    AUTO = "auto"
    TORCH = "torch"
    OPENVINO = "openvino"


class StoppingCondition(Frozen):
    """When a selection stops: at the first condition met; with none, everything is selected."""

    n_samples: int | float = Field(
        -1,
        description="A count (`100`), or a fraction of the usable samples (`0.1`); "
        "`1` is one sample, `1.0` is all; -1 is inactive.",
    )
    min_distance: float = Field(
        -1.0, description="Smallest L2 distance between two selected samples; -1 is inactive."
    )

    @field_validator("n_samples", mode="before")
    @classmethod
    def _count_or_fraction(cls, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("a count like 100 or a fraction like 0.1 is expected")  # noqa: TRY004
        if isinstance(value, int) and value < -1:
            raise ValueError("a count is 0 or more; -1 is inactive")
        if isinstance(value, float) and not (0 <= value <= 1 or value == -1):
            raise ValueError("a fraction is between 0.0 and 1.0; a count has no decimal point")
        return -1 if value == -1 else value

    @field_validator("min_distance")
    @classmethod
    def _distance(cls, value: float) -> float:
        if not math.isfinite(value) or (value < 0 and value != -1):
            raise ValueError("a distance is 0 or more; -1 is inactive")
        return value

    def count(self, n_usable: int) -> int | None:
        """Return how many of `n_usable` samples to select at most, or None for no limit."""
        if self.n_samples == -1:
            return None
        if isinstance(self.n_samples, float):
            return floor_of(self.n_samples, n_usable)
        return min(self.n_samples, n_usable)


class S3Config(Frozen):
    """How buckets given as `s3://…` are reached (a mounted directory knows by itself)."""

    url: str | None = Field(None, description="Endpoint; none is AWS. Also `AWS_ENDPOINT_URL`.")
    region: str | None = Field(None, description="Region to sign for. Also `AWS_REGION`.")
    aws_profile: str | None = Field(None, description="Profile of `~/.aws/credentials`.")
    passwd_file: str | None = Field(None, description="s3fs password file, mode 0600.")
    iam_role: str | None = Field(None, description="`auto` or a role name: ask the instance.")
    stripes: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="s3fs processes for a bucket that is mounted for the run."
    )

    @field_validator("url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value and not re.match(r"https?://[^/]", value):
            raise ValueError("an address like https://host or http://host:port is expected")
        return value or None


class CropsConfig(Frozen):
    """Objects and tiles that a selection looks at, as images of their own."""

    padding: Annotated[float, Field(ge=0, le=10)] = Field(
        0.0, description="A box grows by this share of its width and height in all."
    )
    enable_upload: bool = Field(
        default=True, description="Write the crops of the selected images to the output."
    )
    enable_upload_for_tasks: tuple[str, ...] = Field(
        (), description="Only those of these tasks; none: of all that were used."
    )


class NearDuplicatesConfig(Frozen):
    """Images that show almost the same as another; exact duplicates are always removed."""

    max_distance: float = Field(
        -1.0,
        description="Remove images with an embedding within this L2 distance of an earlier one "
        "(by name) that is kept; -1 is inactive.",
    )

    @field_validator("max_distance")
    @classmethod
    def _distance(cls, value: float) -> float:
        if not math.isfinite(value) or (value < 0 and value != -1):
            raise ValueError("a distance is 0 or more; -1 is inactive")
        return value


class RunConfig(Frozen):
    """One run. Names and defaults of the container's keys are kept; unknown keys are errors."""

    input_dir: str = Field(
        "/home/input_dir", description="Mounted directory, any directory, or `s3://bucket/prefix`."
    )
    output_dir: str = Field(
        "/home/output_dir", description="Directory (mounted or not) or `s3://bucket/prefix`."
    )
    shared_dir: str = Field(
        "/home/shared_dir", description="Where checkpoints, embeddings and filename lists lie."
    )
    run_directory: str = Field(
        "", description="Sub-folder of the output; default `YYYY-MM-DD/HH:MM:SS`. The same resumes."
    )
    relevant_filenames_file: str = Field(
        "", description="Text file of filenames, prefixes or gitignore patterns to process."
    )
    read_through: ReadThrough = Field(
        ReadThrough.AUTO, description="`object`: read objects directly; `mount`: through FUSE."
    )
    cache_size: int = Field(0, ge=-1, description="Bytes of the object cache; 0 or -1 disables.")
    cache_dir: str = Field("", description="Where the cache lies; default `~/.cache/lightly-fs`.")

    model: str = Field("bundled", description="`bundled`, a timm or torchvision name.")
    weights: str = Field("", description="Weights file or URL for `model`.")
    checkpoint: str = Field("", description="Checkpoint to embed with, relative to `shared_dir`.")
    embeddings: str = Field("", description="Embeddings CSV, relative to `shared_dir`.")
    enable_training: bool = Field(
        default=False,
        description="Train the model on the images first, by self-supervision: `lightly.*`.",
    )
    lightly: TrainingConfig = Field(default_factory=TrainingConfig)
    runtime: Runtime = Field(Runtime.AUTO, description="`torch`, `openvino`, or the faster one.")
    device: str = Field(
        "auto",
        description="Where the model runs, and a selection compares all with all: `auto`, "
        "`cpu`, `cuda`, `cuda:1`.",
    )
    batch_size: int = Field(64, ge=1, description="Images per forward pass.")
    num_threads: int = Field(-1, ge=-1, description="Decoding threads; -1: one per usable core.")
    normalize_embeddings: bool = Field(default=True, description="Scale embeddings to unit length.")
    shard_size: int = Field(8192, ge=1, description="Samples per shard, the unit of resuming.")
    properties: PropertiesMode = Field(
        PropertiesMode.SCALED, description="Image properties: from the scaled decode, full, off."
    )
    video: VideoConfig = Field(default_factory=VideoConfig)
    max_image_pixels: int = Field(
        536_870_912, ge=1, description="Larger images are corrupt (decompression bombs)."
    )

    method: CoresetMethod = Field(CoresetMethod.CORESET, description="`coreset` or `random`.")
    stopping_condition: StoppingCondition = Field(default_factory=StoppingCondition)
    seed: int = Field(1, ge=0, description="Seed of the random method and of the 2-D maps.")

    selection_config: SelectionConfig | None = Field(
        None,
        description="Strategies and their inputs instead of `method` and `stopping_condition`: "
        "a YAML or JSON file, or the values themselves.",
    )
    near_duplicates: NearDuplicatesConfig = Field(default_factory=NearDuplicatesConfig)
    selected_sequence_length: int = Field(
        1, ge=1, description="Select sequences of so many consecutive images instead of images."
    )
    crops: CropsConfig = Field(default_factory=CropsConfig)
    pretagging: bool = Field(
        default=False, description="Run an object detector: task `lightly_pretagging`."
    )
    pretagging_config: str = Field(
        "", description="YAML file of the detector's settings, relative to `shared_dir`."
    )
    pretagging_debug: bool = Field(
        default=False, description="Draw the predicted boxes on some images."
    )

    datapool: DatapoolConfig = Field(default_factory=DatapoolConfig)
    datasource: DatasourceConfig = Field(default_factory=DatasourceConfig)

    dump_dataset: bool = Field(
        default=False, description="Write the selected images to the output."
    )
    dump_sampled_embeddings: bool = Field(
        default=True, description="Write the selected embeddings."
    )
    output_image_size: ImageSize = Field(
        -1, description="`x`: shortest edge, `[h,w]`: exact size, -1: unchanged."
    )
    output_image_format: Literal["png", "jpg", "jpeg", "webp", "original"] = Field(
        "png", description="Format of dumped images; `original` copies the bytes unchanged."
    )
    embeddings_csv: Literal["auto", "always", "never"] = Field(
        "auto", description="Write embeddings as CSV too; auto: up to 50 million values."
    )
    n_example_images: int = Field(6, ge=0, description="Retained/removed pairs; must be even.")
    show_video_sampling_timeline: bool = Field(
        default=True, description="Draw when in each video frames were selected, in 20 of them."
    )
    memory_requirement_in_GB: float = Field(  # noqa: N815 - the container's name
        2.0, gt=0, description="Largest distance matrix held for report statistics."
    )
    max_failures: int = Field(
        -1, ge=-1, description="More corrupt, gone, failed or unreadable samples fail the run."
    )
    s3: S3Config = Field(default_factory=S3Config)

    @field_validator("n_example_images")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("must be even")
        return value

    @field_validator("output_image_size")
    @classmethod
    def _size(cls, value: ImageSize) -> ImageSize:
        sides = (value,) if isinstance(value, int) else value
        if value != -1 and not all(0 < side <= _LONGEST_SIDE for side in sides):
            raise ValueError(
                f"-1, a shortest edge like 512, or a size like [480,640] is expected, "
                f"at most {_LONGEST_SIDE}"
            )
        return value

    @field_validator("input_dir", "output_dir", "shared_dir")
    @classmethod
    def _given(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("a directory is expected; `.` is the current one")
        return value

    @field_validator("run_directory")
    @classmethod
    def _below_output(cls, value: str) -> str:
        if any(len(part.encode(errors="replace")) > _NAME_BYTES for part in value.split("/")):
            raise ValueError(f"no part of it may be longer than {_NAME_BYTES} bytes")
        if not value.isprintable():
            raise ValueError("it must be printable text")
        if value.startswith("/") or any(part in ("..", ".") for part in value.split("/")):
            raise ValueError("must be a folder below the output directory, relative to output_dir")
        return value.strip("/")

    @model_validator(mode="after")
    def _whole_sequences(self) -> RunConfig:
        length, chosen = self.selected_sequence_length, self.selection_config
        count = chosen.n_samples if chosen else self.stopping_condition.n_samples
        if length > 1 and self.near_duplicates.max_distance >= 0:
            raise ValueError("`near_duplicates` would tear sequences; leave it out")
        if isinstance(count, int) and count > 0 and count % length:
            near = [count // length * length, (count // length + 1) * length]
            raise ValueError(
                f"n_samples={count} is no multiple of `selected_sequence_length={length}`; "
                f"the nearest are {' and '.join(str(n) for n in near if n)}"
            )
        return self

    @model_validator(mode="after")
    def _one_selection(self) -> RunConfig:
        if self.selection_config is None:
            return self
        # Written down as their defaults, as in a run's own record, they ask for nothing.
        given = {
            "method": self.method is not CoresetMethod.CORESET,
            "stopping_condition": self.stopping_condition != StoppingCondition(),
        }
        for name in (name for name, asked in given.items() if asked):
            raise ValueError(f"`{name}` does not go with `selection_config`; keep one of them")
        return self

    @model_validator(mode="after")
    def _pool_apart(self) -> RunConfig:
        self.datapool.check_place(self.shared_dir, self.input_dir, self.output_dir)
        return self

    def digest(self) -> str:
        """Return a SHA-256 over the keys that decide a run's results.

        Where things are read from, how fast, and by how many threads does not.
        """
        return self._digest_without(_OPERATIONAL)

    def embedding_digest(self) -> str:
        """Return a SHA-256 over the keys that decide a run's embeddings.

        What is selected of them, and how that is written, does not.
        """
        return self._digest_without(_OPERATIONAL + _AFTER_EMBEDDING)

    def _digest_without(self, keys: Sequence[str]) -> str:
        values = self.model_dump(mode="json", exclude=set(keys))
        for name in set(_SINCE_0_4) - set(keys):
            if getattr(self, name) == type(self).model_fields[name].get_default(
                call_default_factory=True
            ):
                del values[name]  # as before there was such a key
        if self.enable_training:
            del values["lightly"]["loader"]["num_workers"]
        else:
            # As before there was training: those who do not train need not know of it.
            del values["lightly"], values["enable_training"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


_SINCE_0_4 = (
    "selection_config",
    "near_duplicates",
    "selected_sequence_length",
    "crops",
    "pretagging",
    "pretagging_config",
    "pretagging_debug",
    "video",
    "datapool",
    "datasource",
    "show_video_sampling_timeline",
)
_OPERATIONAL = (
    "input_dir",
    "output_dir",
    "shared_dir",
    "run_directory",
    "read_through",
    "cache_size",
    "cache_dir",
    "num_threads",
    "max_failures",
    "s3",
)
_AFTER_EMBEDDING = (
    "method",
    "stopping_condition",
    "seed",
    "selection_config",
    "near_duplicates",
    "selected_sequence_length",
    "crops",
    "dump_dataset",
    "dump_sampled_embeddings",
    "output_image_size",
    "output_image_format",
    "embeddings_csv",
    "n_example_images",
    "show_video_sampling_timeline",
    "memory_requirement_in_GB",
)
