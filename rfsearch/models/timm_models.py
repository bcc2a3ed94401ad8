"""Models by their names in timm."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import Any, TypeVar

import torch
from torch import nn

Made = TypeVar("Made")


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


def seeded(make: Callable[[], Made], seed: int) -> Made:
    """Something that is made with random weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def is_known(name: str) -> bool:
    """Whether timm knows a model of this name."""
    import timm

    return bool(timm.is_model(name))


def check_name(name: str) -> None:
    """Refuse a name that timm does not know.

    Raises:
        ValueError: With the nearest names that it knows.
    """
    import timm

    if not is_known(name):
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
