"""The tracer on whole networks for segmentation."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from oracle import check_map
from torch import Tensor, nn

from rfsearch.trace.trace import trace_receptive_field

#: Decoders of segmentation-models-pytorch, and the size of the input in px. The others pool to
#: several sizes, or attend to all positions. What aligns corners depends on the size: for that
#: it is the length of the oracle's strip.
DECODERS = {"unet": 512, "unetplusplus": 512, "linknet": 512, "fpn": 704}
#: Of torchvision, with what is left of their classifiers.
WHOLE = ("fcn_resnet50", "lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large")


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_decoders(decoder: str) -> None:
    torch.manual_seed(0)
    model = smp.create_model(decoder, "resnet18", encoder_weights=None).eval()
    traced = trace_receptive_field(model, DECODERS[decoder])
    for verdict in check_map(model, 3, traced.output):
        assert verdict.checked > 3
        assert not verdict.wrong, verdict.wrong[:4]


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_torchvision(name: str) -> None:
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None).eval()

    def maps(module: nn.Module, images: Tensor) -> Tensor:
        found: Tensor = module(images)["out"]
        return found

    traced = trace_receptive_field(model, 512)
    for verdict in check_map(model, 3, traced.outputs["out"], maps):
        assert verdict.checked > 3
        assert not verdict.wrong, verdict.wrong[:4]
