"""Gradients with global parts taken as constant, against the NaN oracle and the closed form."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from helpers import architecture, stage_dict
from timm.layers import GroupNormAct
from torch import nn

from rfsearch.measure._local import keep_local
from rfsearch.measure.erf import measure_erf, output_map
from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model

NETWORKS = {
    "basic with se": architecture(stage_dict("basic", 16, 2, (3,), context="se"), width=16),
    "bottleneck with gc": architecture(
        stage_dict("bottleneck", 128, 2, (3,), context="gc"), width=16
    ),
    "mbconv with se": architecture(stage_dict("mbconv", 16, 1, (5,), context="se"), width=16),
    "attention": architecture(
        stage_dict("basic", 16, 2, (3,)), stage_dict("attention", 16, 1, (1,)), width=16
    ),
    "vit": architecture(
        stage_dict("attention", 16, 1, (1, 1)), kind="patch", kernel_size=4, stride=4, width=16
    ),
}


def build(arch: Architecture) -> nn.Module:
    torch.manual_seed(0)
    return build_model(arch, in_chans=1, num_classes=0).eval()


@pytest.mark.parametrize("arch", NETWORKS.values(), ids=NETWORKS)
def test_gradient_stays_in_the_theoretical_field(arch: Architecture) -> None:
    field = arch.receptive_field()
    side = field.size + 10 * field.stride
    erf = measure_erf(build(arch), side, num_images=4, local=True)
    touched = np.flatnonzero(erf.map.sum(axis=0))
    assert touched[-1] - touched[0] + 1 == field.size


@pytest.mark.parametrize("arch", NETWORKS.values(), ids=NETWORKS)
def test_otherwise_the_gradient_is_everywhere(arch: Architecture) -> None:
    side = arch.receptive_field().size + 10 * arch.receptive_field().stride
    side -= side % arch.receptive_field().stride
    erf = measure_erf(build(arch), side, num_images=4)
    # A part of the gradient is too small to tell from zero behind closed rectifiers.
    assert (erf.map > 0).mean() > 0.9


def test_a_network_without_global_parts_is_measured_as_ever() -> None:
    model = build(architecture(stage_dict("basic", 16, 2, (3,))))
    one = measure_erf(model, 32, num_images=4)
    assert np.array_equal(one.map, measure_erf(model, 32, num_images=4, local=True).map)


def test_outputs_and_the_model_stay_as_they_are() -> None:
    model, images = build(NETWORKS["mbconv with se"]), torch.randn(1, 1, 16, 16)
    before = output_map(model, images)
    measure_erf(model, 16, num_images=4, local=True)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    keep_local(model)
    assert torch.equal(output_map(model, images), before)


@pytest.mark.parametrize("norm", [nn.GroupNorm(4, 16), GroupNormAct(16, 4)])
def test_group_normalisation_keeps_its_statistics(norm: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3), norm, nn.Conv2d(16, 16, 3))
    images = torch.randn(1, 3, 24, 24)
    before = output_map(model, images)
    assert (measure_erf(model, 24, num_images=2).map > 0).mean() > 0.9
    assert (measure_erf(model, 24, num_images=2, local=True).map > 0).sum() == 5**2
    keep_local(model)
    torch.testing.assert_close(output_map(model, images), before)


def test_timms_efficientnets() -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", num_classes=0)
    erf = measure_erf(model, 192, num_images=2, local=True)
    assert (erf.map > 0).mean() < 0.9
    assert (measure_erf(model, 192, num_images=2).map > 0).mean() > 0.99
