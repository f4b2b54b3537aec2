"""Models of timm: pooled features, with the weights of the hub or a local file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
from torch import nn

from lightly_fs.embedding.checkpoint import State, load_state
from lightly_fs.embedding.download import NO_WEIGHTS_HINT, answers, download
from lightly_fs.embedding.embedder import Network
from lightly_fs.errors import ModelError


def has_model(name: str) -> bool:
    return bool(timm.is_model(name))


def model_names() -> list[str]:
    return list(timm.list_models())


def fetch(name: str, cache: Path) -> Path:
    """Return the pretrained weights of `name` (`resnet18`, `resnet18.a1_in1k`)."""
    config = _config(name)
    if config.custom_load or not (config.hf_hub_id or config.url):
        raise ModelError(f"timm has no weights for {name} that load", hint=NO_WEIGHTS_HINT)
    if config.hf_hub_id:
        return _from_hub(config.hf_hub_id, config.hf_hub_filename)
    return download(config.url, cache)


def build(name: str, state: State | None) -> Network:
    """Return `name` with the weights of `state`, or as timm initialises it."""
    config = _config(name)
    channels, height, width = config.input_size
    if channels != 3 or height != width:
        raise ModelError(
            f"timm/{name} takes {channels}x{height}x{width} images; square RGB ones are given"
        )
    module: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    if state is not None:
        heads = (config.classifier,) if isinstance(config.classifier, str) else config.classifier
        problem = load_state(module, state, head=heads or ())
        if problem is not None:
            module = _remapped(name, state, problem)
    return Network.of(f"timm/{name}", module.eval(), height, mean=config.mean, std=config.std)


def _config(name: str) -> Any:  # noqa: ANN401 - timm is untyped
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        variants = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}.*")) or "none"
        raise ModelError(f"timm knows no weights {name}", hint=f"there are: {variants}") from error
    return config or timm.models.PretrainedCfg()


def _remapped(name: str, state: State, problem: str) -> nn.Module:
    """Return the network loaded as timm loads originals: names and position grids are converted."""
    try:
        module: Any = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)}
        )
        module.reset_classifier(0)
    except Exception as error:
        raise ModelError(
            f"the weights do not fit timm/{name}: {problem}",
            hint="model= must name the network that the weights were made for",
        ) from error
    network: nn.Module = module
    return network


def _from_hub(repository: str, filename: str | None) -> Path:
    from huggingface_hub import constants, errors, hf_hub_download, try_to_load_from_cache

    names: Sequence[str] = [filename] if filename else ["model.safetensors", "pytorch_model.bin"]
    for name in names:
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    # The hub's own client tries for half a minute before it says that there is no network.
    if constants.HF_HUB_OFFLINE or not answers(constants.ENDPOINT):
        raise ModelError(
            f"{constants.ENDPOINT} does not answer, so {repository} cannot be fetched",
            hint=NO_WEIGHTS_HINT,
        )
    failure: Exception | None = None
    for name in names:
        try:
            return Path(hf_hub_download(repository, name))
        except Exception as error:  # noqa: BLE001 - its versions raise errors of several libraries
            failure = error
            absent = isinstance(error, errors.EntryNotFoundError)
            if not absent or isinstance(error, errors.LocalEntryNotFoundError):
                break
    raise ModelError(f"{repository} cannot be fetched: {failure}", hint=NO_WEIGHTS_HINT)
