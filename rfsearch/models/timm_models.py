"""Models by their names in timm."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from textwrap import shorten
from typing import Any, TypeVar

import torch
from torch import nn

Made = TypeVar("Made")


def create_model(name: str, *, pretrained: bool = False, **options: Any) -> nn.Module:
    """A model that timm knows, with fresh weights unless `pretrained`.

    Args:
        name: Its name in timm; with `@8` behind it the model ends in its last map of 8 px stride.
        pretrained: Whether it has its published weights.
        **options: For `timm.create_model`.

    Raises:
        ValueError: If timm knows no such model, it has no such map, or its weights cannot be had.
    """
    import timm

    check_name(name)
    name, stride = _parted(name)
    if stride is not None:
        options |= {"features_only": True, "out_indices": (_index_of_map(name, stride),)}
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


def seeded(make: Callable[[], Made], seed: int) -> Made:
    """Something that is made with random weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def is_known(name: str) -> bool:
    """Whether timm knows a model of this name."""
    import timm

    return bool(timm.is_model(_parted(name)[0]))


def check_name(name: str) -> None:
    """Refuse a name that timm does not know.

    Raises:
        ValueError: With the nearest names that it knows.
    """
    import timm

    if not is_known(name):
        raise ValueError(
            f"`model` must be a name that timm knows, but got {name!r}"
            f"{nearest(_parted(name)[0], timm.list_models())}."
        )


def _parted(name: str) -> tuple[str, int | None]:
    """The name without a stride, and the stride.

    >>> _parted("resnet18@8"), _parted("resnet18")
    (('resnet18', 8), ('resnet18', None))
    """
    before, _, stride = name.rpartition("@")
    return (before, int(stride)) if before and stride.isdecimal() else (name, None)


@cache
def _index_of_map(name: str, stride: int) -> int:
    """Which of a model's maps is the one of a stride.

    Raises:
        ValueError: If there is none.
    """
    import timm

    try:
        with torch.device("meta"):
            strides = timm.create_model(name, features_only=True).feature_info.reduction()
    except (AttributeError, RuntimeError):  # What timm raises where a model has no such maps.
        strides = []
    if stride not in strides:
        has = f"maps of {', '.join(map(str, strides))} px" if strides else "no maps of its stages"
        raise ValueError(f"`{name}@{stride}` must name a map of {name}, which gives {has}.")
    return int(strides.index(stride))


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
