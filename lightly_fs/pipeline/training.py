"""The train stage: images and frames are read once into the local pack; epochs see nothing else."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightly_fs.artifacts.run_dir import ELSEWHERE
from lightly_fs.decoding.loader import ImageBatch, image_batches
from lightly_fs.embedding.checkpoint import BACKBONE
from lightly_fs.embedding.checkpoint import RECORD as CARD
from lightly_fs.embedding.embed import decode_settings
from lightly_fs.embedding.embedder import Network
from lightly_fs.embedding.final_layer import final_layer, has_final_layer, with_final_layer
from lightly_fs.embedding.load import cache_directory, start_embedder
from lightly_fs.errors import ArtifactError, ConfigError
from lightly_fs.pipeline.context import RunContext
from lightly_fs.pipeline.embedding import Decoded, nothing_usable
from lightly_fs.pipeline.tally import check_failures
from lightly_fs.report.lettering import counted
from lightly_fs.training import memory
from lightly_fs.training.checkpoint import Checkpoints, Content, Origin, checkpoint_name, misfit
from lightly_fs.training.distributed import trainer_of
from lightly_fs.training.network import (
    CPU,
    starting_head,
    starting_weights,
    starts_random,
    training_devices,
)
from lightly_fs.training.pack import Pack
from lightly_fs.training.packs import claim, sweep_packs
from lightly_fs.training.simclr import summary
from lightly_fs.training.trainer import Plan, Trainer
from lightly_fs.types import Sample, Stage

if TYPE_CHECKING:
    from lightly_fs.config import RunConfig
    from lightly_fs.datasource.shards import Shard
    from lightly_fs.decoding.images import DecodeSettings
    from lightly_fs.decoding.videos import FrameBatch, Position
    from lightly_fs.embedding.embedder import Embedder

logger = logging.getLogger(__name__)

SAVE_EVERY_S = 60.0
"""Checkpoints in between are written at most so often; the first and the last always are."""
RECORD = "data/training.json"
_COPY = 2
"""Copies to cut views from have so many times a view's side: small crops stay sharp."""


@dataclass(frozen=True, eq=False)
class Trained:
    """What the train stage leaves to the embed stage.

    Attributes:
        embedder: Starts the trained network.
        decoded: The images that need not be read again.
        history: What was measured, epoch by epoch.
    """

    embedder: Callable[[], Embedder]
    decoded: Decoded
    history: Sequence[Mapping[str, Any]]


def train_network(this: RunContext, network: Network) -> Trained:
    """Train `network` on the images of the run, going on where a killed process was.

    Raises:
        ConfigError: There are too few images, or there is no room for them on the disk.
        ModelError: A step does not fit into memory, or training diverges.
        ArtifactError: The training was begun by another number of processes, or a checkpoint in
            the run directory is not of this run.
        NoUsableSampleError: Not one image could be read.
    """
    since = time.monotonic()
    epochs = this.config.lightly.trainer.max_epochs
    if not this.inventory.videos:  # nobody knows how many frames they have
        _require_batch(this.config, len(this.inventory), "listed")
    size, folder = network.input_size, pack_directory(this.config, this.run_dir.run_id)
    claim(folder)
    sweep_packs(folder.parent)
    pack = Pack(folder / str(size), size, _COPY * size)
    work = _Work(this, network, pack)
    content = work.last_content()
    done = 0 if content is None else int(content["epoch"]) + 1
    if done < epochs:
        _fill(this, pack)
        content = work.train(content)
    if content is not None:
        work.stage(content)
        network = _trained(network, content)
    images = images_of(content)
    this.progress(Stage.TRAIN, images * epochs, None, work.note(content))
    this.took(Stage.TRAIN, since, images * max(0, epochs - done))
    return Trained(
        lambda: start_embedder(this.config, lambda: network),
        _Packed(pack, this.config.batch_size),
        [] if content is None else content["history"],
    )


def pack_directory(config: RunConfig, run_id: str) -> Path:
    """Return where the decoded images of a run lie until it is complete."""
    return cache_directory(config) / "training" / run_id


class _Work:
    """A training and its checkpoints in the run directory."""

    def __init__(self, this: RunContext, network: Network, pack: Pack) -> None:
        self._this, self._network, self._pack = this, network, pack
        self._settings = this.config.lightly
        self._devices = training_devices(this.config)
        self._head = starting_head(this.config)
        self._origin = Origin(this.run_dir.run_id, self._digest())
        self._checkpoints = Checkpoints(
            this.run_dir.output.below(this.run_dir.folder),
            self._origin,
            max_epochs=self._settings.trainer.max_epochs,
            top_k=self._settings.checkpoint_callback.save_top_k,
        )

    def _digest(self) -> str:
        """Return a hash over all that shapes the training, but for the number of processes."""
        network, config = self._network, self._this.config
        facts = {
            "config": config.embedding_digest(),
            "inventory": self._this.inventory.digest,
            "weights": starting_weights(config, network, self._head),
            "preprocessing": network.preprocessing,
            "model": network.name,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def last_content(self) -> Content | None:
        """Return the checkpoint to go on from, if there is one."""
        found = self._checkpoints.last()
        if found is None:
            return None
        began, now = found["processes"], self._devices.count
        if began != now and int(found["epoch"]) + 1 < self._settings.trainer.max_epochs:
            raise ArtifactError(
                f"the training in {self._this.run_dir.uri} was begun by {began} processes, "
                f"and this would go on with {now}",
                hint=f"go on where {began} devices are seen, or choose another `run_directory`",
            )
        logger.info("going on from %s", checkpoint_name(int(found["epoch"])))
        return found

    def train(self, resumed: Content | None) -> Content:
        """Train to the end; return the last checkpoint."""
        copies = self._pack.copies()
        _require_images(self._pack)
        _require_batch(self._this.config, len(copies), "readable")
        plan = Plan(
            settings=self._settings,
            devices=self._devices,
            name=self._network.name,
            size=self._network.input_size,
            mean=self._network.mean,
            std=self._network.std,
            copies=copies,
            plain=self._pack.plain(),
            pretrained=not starts_random(self._this.config),
            head=self._head,
            origin=self._origin,
            resumed=resumed,
        )
        # A copy: training on several GPUs changes layers, and the original embeds.
        with memory.allocating(self._settings, CPU, hint=ELSEWHERE):
            backbone = copy.deepcopy(self._network.module)
        depth = self._settings.summary_callback.max_depth
        for line in summary(backbone, depth) if depth else ():
            logger.info("%s", line)
        logger.info("Training self-supervised model")
        with trainer_of(plan, backbone) as trainer:
            return self._epochs(trainer, trainer.images)

    def _epochs(self, trainer: Trainer, n_images: int) -> Content:
        logger.info("every epoch trains on %d images", n_images)
        total, saved = self._settings.trainer.max_epochs, float("-inf")
        content = trainer.checkpoint()
        began, first = time.monotonic(), trainer.epoch

        def report(epoch: int, images: int, loss: float) -> None:
            note = f"epoch {epoch + 1} of {total} of {n_images:,} images, loss {loss:.3f}"
            self._this.progress(Stage.TRAIN, epoch * n_images + images, total * n_images, note)

        for epoch in trainer.epochs(report):
            rate = (epoch + 1 - first) * n_images / (time.monotonic() - began)
            logger.info(
                "epoch %d of %d: %s, %.0f img/s", epoch + 1, total, told(trainer.history[-1]), rate
            )
            self._this.lease.check()
            claim(self._pack.directory.parent)
            last = epoch + 1 == total
            if last or time.monotonic() - saved >= SAVE_EVERY_S:
                content = trainer.checkpoint()
                self._save(content)
                saved = time.monotonic()
        return content

    def _save(self, content: Content) -> None:
        self._this.run_dir.check()
        self._checkpoints.write(content, self._pack.directory)

    def stage(self, content: Content) -> None:
        """Make the checkpoints that stay, and the record, part of what the run publishes."""
        staging = self._this.staging
        self._checkpoints.stage(content, staging)
        record = {
            "model": content[CARD]["model"],
            "checkpoint": checkpoint_name(int(content["epoch"])),
            "processes": content["processes"],
            "settings": content["hyper_parameters"],
            "epochs": content["history"],
        }
        (staging / RECORD).parent.mkdir(parents=True, exist_ok=True)
        (staging / RECORD).write_text(json.dumps(record, indent=1) + "\n")

    def note(self, content: Content | None) -> str:
        """Return what the progress line says at the end."""
        if content is None:
            return "no epochs"
        epochs = counted(content["epoch"] + 1, "epoch")
        images = counted(images_of(content), "image")
        return f"{epochs} of {images}, {told(content['history'][-1])}"


def images_of(content: Content | None) -> int:
    """Return how many images every epoch trained on: some are held out, some fill no step."""
    return 0 if content is None else int(content["history"][-1]["images"])


def told(entry: Mapping[str, Any]) -> str:
    """Return what was measured after an epoch, in words."""
    parts = [f"loss {entry['loss']:.3f}"] if entry["loss"] is not None else []
    if "knn" in entry:
        parts += [
            f"k-NN {entry['knn']:.1%}",
            f"alignment {entry['alignment']:.3f}",
            f"uniformity {entry['uniformity']:.3f}",
        ]
    return ", ".join(parts)


def _fill(this: RunContext, pack: Pack) -> None:
    """Read and decode every shard that is not in the pack yet."""
    shards, inventory = this.run_dir.shards, this.inventory
    there = pack.shards()
    missing = [n for n in range(len(shards)) if n not in set(there)]
    n_images = len(inventory) - len(inventory.videos)
    open_images = sum(shards.size_of(n) for n in missing if not shards.holds_videos(n))
    pack.require_space(open_images)
    done = n_images - open_images
    failed = sum(len(pack.failures(number)) for number in there)
    settings = decode_settings(this.config, pack.size, pack.copy_size)
    logger.info("reading %d of %d images once, to train on", open_images, n_images)
    # How many frames videos have is known only when they are decoded.
    total = None if inventory.videos else n_images

    def advance(count: int) -> None:
        nonlocal done
        done += count
        this.progress(Stage.TRAIN, done, total, "reading")

    advance(0)
    for number in missing:
        shard = shards[number]
        failed += len(pack.write(number, _batches(this, shard, settings), progress=advance))
        failed += len(shard.refused)
        check_failures(failed, this.config.max_failures)
        claim(pack.directory.parent)
        this.lease.check()


def _batches(
    this: RunContext, shard: Shard, settings: DecodeSettings
) -> Iterator[ImageBatch] | Iterator[FrameBatch]:
    if not shard.videos:
        return image_batches(shard.samples, this.reader, settings)
    from lightly_fs.pipeline.video_embedding import shard_frames

    return shard_frames(this, shard.samples, settings)


class _Packed:
    """The shards of a pack, for the embed stage."""

    def __init__(self, pack: Pack, batch_size: int) -> None:
        self._pack, self._batch_size = pack, batch_size
        self._there = set(pack.shards())

    def images(self, shard: Shard) -> Iterator[ImageBatch] | None:
        if shard.number not in self._there:
            return None
        return self._pack.batches(shard.number, shard.samples, self._batch_size)

    def frames(
        self, shard: Shard, videos: Sequence[Sample], start: Position | None
    ) -> Iterator[FrameBatch] | None:
        if shard.number not in self._there:
            return None
        names = {video.filename for video in videos}
        return self._pack.frames(shard.number, names, start, self._batch_size)


def _require_images(pack: Pack) -> None:
    """Refuse to train when not one image is there, with the reasons.

    Raises:
        NoUsableSampleError: Nothing could be read.
    """
    if len(pack.copies()):
        return
    failures = [failure for number in pack.shards() for failure in pack.failures(number)]
    pack.remove()  # what a store refused may be given the next time
    message = f"not one of the {len(failures):,} samples could be read to train on"
    raise nothing_usable(failures, message)


def _require_batch(config: RunConfig, n_images: int, which: str) -> None:
    """Refuse to train on less than a step takes.

    Raises:
        ConfigError: There are too few images.
    """
    settings = config.lightly
    processes = training_devices(config).count
    needed = settings.loader.batch_size * processes if settings.loader.drop_last else 2 * processes
    if n_images >= needed or settings.trainer.max_epochs == 0:
        return
    fits = n_images // processes
    raise ConfigError(
        f"{n_images} {which} images are fewer than the {needed} of one training step "
        f"(lightly.loader.batch_size={settings.loader.batch_size}); "
        + (f"lightly.loader.batch_size={fits} does" if fits >= 2 else "it takes more images"),
        hint=ELSEWHERE,
    )


def _trained(network: Network, content: Content) -> Network:
    """Return the network with the weights of a checkpoint."""
    state = {
        name.removeprefix(BACKBONE): value
        for name, value in content["state_dict"].items()
        if name.startswith(BACKBONE)
    }
    if has_final_layer(state) and not has_final_layer(network.state):
        network = with_final_layer(network, final_layer(state), checkpoint_name(content["epoch"]))
    module = network.module
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise misfit(content, network.name) from error
    return Network.of(
        network.name, module.eval(), network.input_size, mean=network.mean, std=network.std
    )
