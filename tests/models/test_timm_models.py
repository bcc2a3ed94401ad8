from __future__ import annotations

import logging
from typing import Any

import pytest
import timm
import torch
from torch import nn

from rfsearch.models.timm_models import create_model, is_known


def test_known_name() -> None:
    assert type(create_model("resnet18")).__name__ == "ResNet"


def test_unknown_name() -> None:
    match = (
        r"^`model` must be a name that timm knows, but got 'resnet81'; the nearest are resnet18,"
    )
    with pytest.raises(ValueError, match=match):
        create_model("resnet81")


def test_name_like_no_other() -> None:
    with pytest.raises(ValueError, match=r"that timm knows, but got '0000'\.$"):
        create_model("0000")


def test_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, **options: Any) -> nn.Module:
        assert options == {"pretrained": True}
        raise OSError("no route\n  to host")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(ValueError, match=r"^The weights of 'resnet18' cannot be had: no route to"):
        create_model("resnet18", pretrained=True)


def test_retries_of_a_download_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("huggingface_hub.utils")

    def download(name: str, **_: Any) -> nn.Module:
        assert not logger.isEnabledFor(logging.WARNING)
        assert logger.isEnabledFor(logging.ERROR)
        return nn.ReLU()

    monkeypatch.setattr(timm, "create_model", download)
    level = logging.getLogger("huggingface_hub").level
    create_model("resnet18", pretrained=True)
    assert logging.getLogger("huggingface_hub").level == level


def test_model_without_published_weights() -> None:
    # timm refuses by itself, without a download.
    published = {name.partition(".")[0] for name in timm.list_models(pretrained=True)}
    name = next(name for name in timm.list_models("resnet*") if name not in published)
    with pytest.raises(
        ValueError, match=rf"^The weights of '{name}' cannot be had: No pretrained"
    ):
        create_model(name, pretrained=True)


def test_mistakes_in_a_model_are_not_about_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, **_: Any) -> nn.Module:
        raise RuntimeError("a bug")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        create_model("resnet18")


def test_a_model_ends_in_its_map_of_a_stride() -> None:
    model = create_model("test_resnet@8", in_chans=1)
    (one,) = model(torch.zeros(1, 1, 64, 64))
    assert one.shape[-2:] == (8, 8)
    assert is_known("test_resnet@8")
    with pytest.raises(ValueError, match=r"which gives maps of 2, 4, 8, 16, 32 px"):
        create_model("test_resnet@7")
    with pytest.raises(ValueError, match="nearest are test_resnet"):
        create_model("test_resnett@8")
