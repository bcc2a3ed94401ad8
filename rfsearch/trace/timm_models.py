"""Models by their names in timm, and what a model takes in."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import Any

import torch
from torch import nn

#: A first convolution of more channels than this sees pixels that were moved into them.
_MOST_CHANNELS = 4


def create_model(name: str, *, pretrained: bool = False, **options: Any) -> nn.Module:
    """A model that timm knows, with fresh weights unless `pretrained`.

    Args:
        name: Its name in timm.
        pretrained: Whether it has its published weights.
        **options: For `timm.create_model`.

    Raises:
        ValueError: If timm knows no such model, or its weights cannot be had.
    """
    import timm

    check_name(name)
    if not pretrained:
        fresh: nn.Module = timm.create_model(name, **options)
        return fresh
    try:
        with _without_retries_told():
            trained: nn.Module = timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # What a failed download raises depends on where the weights lie.
        reason = shorten(str(error), 160, placeholder=" ...") or type(error).__name__
        raise ValueError(f"The weights of {name!r} cannot be had: {reason}") from error
    return trained


def seeded_model(name: str, seed: int, *, pretrained: bool = False) -> nn.Module:
    """A model that timm knows, whose fresh weights depend on the seed alone.

    Raises:
        ValueError: As `create_model`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_model(name, pretrained=pretrained)


def check_name(name: str) -> None:
    """Refuse a name that timm does not know.

    Raises:
        ValueError: With the nearest names that it knows.
    """
    import timm

    if not timm.is_model(name):
        raise ValueError(
            f"`model` must be a name that timm knows, but got {name!r}"
            f"{nearest(name, timm.list_models())}."
        )


@contextmanager
def _without_retries_told() -> Iterator[None]:
    """Say once that a download failed, and not at every attempt."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of a message: the names most like an unknown one, or nothing.

    >>> nearest("layer5", ["layer3", "layer4", "conv1"])
    '; the nearest are layer4, layer3'
    """
    near = difflib.get_close_matches(name, list(names), n=3)
    return f"; the nearest are {', '.join(near)}" if near else ""


def input_channels(model: nn.Module) -> int:
    """Input channels of a model: those of its first convolution, or 3.

    Where these are more than 4, a timm model that states its channels is believed.
    """
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    first = next(convolutions, None)
    stated: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    channels: int = stated.get("input_size", (3,))[0]
    if first is None or (stated and first.in_channels > _MOST_CHANNELS):
        return channels
    return first.in_channels
