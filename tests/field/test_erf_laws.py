"""The laws of effective receptive fields, expected and measured."""

from __future__ import annotations

import math

import pytest
from helpers import architecture, measured_sigma, stage_dict

from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model


def stack(block: str, depth: int, width: int = 32) -> Architecture:
    """`depth` 3x3 convolutions of stride 1, one in the stem."""
    convolutions = {"plain": 1, "basic": 2}[block]
    blocks = (3,) * ((depth - 1) // convolutions)
    return architecture(stage_dict(block, width, kernels=blocks), width=width)


def measured(arch: Architecture, num_images: int = 8, num_initialisations: int = 2) -> float:
    side = arch.receptive_field().size
    return measured_sigma(
        lambda: build_model(arch, num_classes=0), side, num_images, num_initialisations
    )


# -- the root of depth -----------------------------------------------------------------------


@pytest.mark.parametrize("depth", [2, 5, 17, 65])
def test_expected_sigma_is_the_root_of_two_thirds_of_depth(depth: int) -> None:
    assert stack("plain", depth).expected_erf().sigma == pytest.approx(math.sqrt(2 * depth / 3))


@pytest.mark.parametrize("depth", [5, 17])
def test_measured_sigma_is_the_root_of_two_thirds_of_depth(depth: int) -> None:
    sigma = measured(stack("plain", depth))
    assert sigma == pytest.approx(math.sqrt(2 * depth / 3), rel=0.05)
    # The textbook's continuous taps give 0.58 sqrt(L), 29 % less.
    assert sigma > 1.3 * math.sqrt(depth / 3)


def test_measured_sigma_doubles_with_four_times_the_depth() -> None:
    shallow, deep = (measured(stack("plain", depth)) for depth in (5, 20))
    assert deep / shallow == pytest.approx(2, rel=0.06)


def test_ratio_to_the_theoretical_field_falls_with_the_root_of_depth() -> None:
    shallow, deep = (stack("plain", depth).expected_erf() for depth in (16, 64))
    assert deep.ratio / shallow.ratio == pytest.approx(0.5, rel=0.05)


# -- shortcuts -------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [5, 17, 65])
def test_shortcuts_shrink_the_expected_erf(depth: int) -> None:
    plain, residual = (stack(block, depth) for block in ("plain", "basic"))
    assert plain.receptive_field() == residual.receptive_field()
    assert residual.expected_erf().sigma < 0.9 * plain.expected_erf().sigma
    assert residual.expected_erf().size <= plain.expected_erf().size


def test_shortcuts_shrink_the_measured_erf() -> None:
    plain, residual = (measured(stack(block, 17)) for block in ("plain", "basic"))
    assert residual < 0.85 * plain
    assert residual == pytest.approx(stack("basic", 17).expected_erf().sigma, rel=0.06)


def test_shortcuts_shrink_it_more_in_deeper_networks() -> None:
    shares = [
        stack("basic", depth).expected_erf().sigma / stack("plain", depth).expected_erf().sigma
        for depth in (3, 5, 9, 17, 33, 65)
    ]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("block", ["plain", "basic"])
@pytest.mark.parametrize("depth", [33, 65])
def test_deep_stacks(block: str, depth: int) -> None:
    arch = stack(block, depth)
    assert measured(arch, num_initialisations=3) == pytest.approx(
        arch.expected_erf().sigma, rel=0.04
    )
