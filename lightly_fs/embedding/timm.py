"""Models of timm: pooled features, with the weights of the hub or a local file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
from torch import nn

from lightly_fs.embedding.checkpoint import State, load_state
from lightly_fs.embedding.download import CONTACT_S, NO_WEIGHTS_HINT, download, within
from lightly_fs.embedding.embedder import Network
from lightly_fs.errors import ModelError

_logger = logging.getLogger(__name__)

ALIASES = {
    "dinov2-small": "vit_small_patch14_dinov2.lvd142m",
    "dinov2-base": "vit_base_patch14_dinov2.lvd142m",
    "dinov2-small-reg": "vit_small_patch14_reg4_dinov2.lvd142m",
    "dinov2-base-reg": "vit_base_patch14_reg4_dinov2.lvd142m",
    "dinov3-small": "vit_small_patch16_dinov3.lvd1689m",
    "dinov3-base": "vit_base_patch16_dinov3.lvd1689m",
    "dinov3-convnext-tiny": "convnext_tiny.dinov3_lvd1689m",
    "siglip2-base": "vit_base_patch16_siglip_224.v2_webli",
    "clip-b32": "vit_base_patch32_clip_224.openai",
    "clip-b16": "vit_base_patch16_clip_224.openai",
}
"""Short names for what people ask for by the name of the method."""

_CLASSIFYING_SIZES = {"dinov2": 224}
"""Input sizes by a word of the name, where timm's own (518 px) is for dense prediction: a quarter
to a fifth of the work, and nearly the same neighbours."""


def has_model(name: str) -> bool:
    return name in ALIASES or bool(timm.is_model(name))


def model_names() -> list[str]:
    return [*ALIASES, *timm.list_models()]


def fetch(name: str, cache: Path) -> Path:
    """Return the pretrained weights of `name` (`resnet18`, `resnet18.a1_in1k`)."""
    name = ALIASES.get(name, name)
    config = _config(name)
    if config.custom_load or not (config.hf_hub_id or config.url):
        raise ModelError(f"timm has no weights for {name} that load", hint=NO_WEIGHTS_HINT)
    if config.hf_hub_id:
        return _from_hub(config.hf_hub_id, config.hf_hub_filename)
    return download(config.url, cache)


def build(name: str, state: State | None, *, input_size: int | None = None) -> Network:
    """Return `name` with the weights of `state`, or as timm initialises it.

    Args:
        name: As timm knows it, or an alias.
        state: Tensors by name; a classifier among them is left out.
        input_size: S, pixels; None for the model's usual one.
    """
    name = ALIASES.get(name, name)
    config = _config(name)
    channels, height, width = config.input_size
    if channels != 3 or height != width:
        raise ModelError(
            f"timm/{name} takes {channels}x{height}x{width} images; square RGB ones are given"
        )
    side = input_size or _classifying_size(name, height)
    # Only networks with position embeddings have a size; the others take any.
    options: dict[str, Any] = (
        {"img_size": side} if side != height and config.fixed_input_size else {}
    )
    module: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **options)
    if state is not None:
        heads = (config.classifier,) if isinstance(config.classifier, str) else config.classifier
        problem = load_state(module, state, head=heads or ())
        if problem is not None:
            module = _remapped(name, state, problem, options)
    return Network.of(f"timm/{name}", module.eval(), side, mean=config.mean, std=config.std)


def _classifying_size(name: str, height: int) -> int:
    sizes = (size for word, size in _CLASSIFYING_SIZES.items() if f"_{word}" in name)
    return min(height, *sizes, height)


def _config(name: str) -> Any:  # noqa: ANN401 - timm is untyped
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        variants = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}.*")) or "none"
        raise ModelError(f"timm knows no weights {name}", hint=f"there are: {variants}") from error
    return config or timm.models.PretrainedCfg()


def _remapped(name: str, state: State, problem: str, options: dict[str, Any]) -> nn.Module:
    """Return the network loaded as timm loads originals: names and position grids are converted."""
    try:
        module: Any = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)}, **options
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
    from huggingface_hub import constants, errors, try_to_load_from_cache

    names: Sequence[str] = [filename] if filename else ["model.safetensors", "pytorch_model.bin"]
    for name in names:
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            f"HF_HUB_OFFLINE is set, so {repository} cannot be fetched", hint=NO_WEIGHTS_HINT
        )
    _logger.info("fetching the weights of %s from %s", repository, constants.ENDPOINT)
    failure: Exception | None = None
    for name in names:
        try:
            return _fetch(repository, name)
        except Exception as error:  # noqa: BLE001 - its versions raise errors of several libraries
            failure = error
            absent = isinstance(error, errors.EntryNotFoundError)
            if not absent or isinstance(error, errors.LocalEntryNotFoundError):
                break
    reason = (str(failure).strip() or type(failure).__name__).splitlines()[0]
    raise ModelError(
        f"{repository} cannot be fetched from {constants.ENDPOINT}: {reason}", hint=NO_WEIGHTS_HINT
    )


def _fetch(repository: str, name: str) -> Path:
    """Fetch a file once the hub has said in time that it has it.

    The hub's own client alone asks six times, for more than a minute, before it says that nobody
    answers.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    url = hf_hub_url(repository, name)
    within(CONTACT_S, lambda: get_hf_file_metadata(url, timeout=CONTACT_S))
    return Path(hf_hub_download(repository, name))
