from __future__ import annotations

import numpy as np
import pytest
from helpers import architecture, stage_dict
from matplotlib.patches import Rectangle

from rfsearch.analysis.field_figures import (
    ObjectSizes,
    erf_gallery,
    expected_growth,
    field_growth,
    layer_growth,
)
from rfsearch.diagnosis.layer_field import architecture_layers

SMALL = architecture(stage_dict(kernels=(3,)))
LARGE = architecture(stage_dict("basic", stride=2, kernels=(3, 5)), kernel_size=7)
OBJECTS = ObjectSizes(6, 10)


def test_growth_ends_at_what_the_network_sees() -> None:
    for network in (SMALL, LARGE):
        assert len(expected_growth(network)) == len(architecture_layers(network))
        assert expected_growth(network)[-1] == network.expected_erf().size
    left, right = field_growth({"small": SMALL, "large": LARGE}, OBJECTS).axes
    assert [line.get_ydata()[-1] for line in left.get_lines()] == [
        SMALL.receptive_field().size,
        LARGE.receptive_field().size,
    ]
    assert [line.get_ydata()[-1] for line in right.get_lines()] == [
        SMALL.expected_erf().size,
        LARGE.expected_erf().size,
    ]


def test_curves_differ_in_style_not_in_colour_alone() -> None:
    left, _ = field_growth({"a": SMALL, "b": LARGE}).axes
    assert len({line.get_linestyle() for line in left.get_lines()}) == 2


def test_all_panels_have_the_same_scale() -> None:
    maps = {"best": LARGE.expected_erf().profile, "rejected": SMALL.expected_erf().profile}
    images = [np.zeros((20, 30), np.uint8), np.zeros((20, 30, 3), np.uint8)]
    figure = erf_gallery(maps, images, OBJECTS)
    figure.canvas.draw()
    axes = figure.axes
    assert len(axes) == 2
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in axes}) == 1
    widths = [ax.get_window_extent().width for ax in axes]
    assert widths == pytest.approx([widths[0]] * 2, rel=0.01)
    # One pixel of the input is as large on a map as on the image below it, which shows through.
    for ax, erf in zip(axes, maps.values(), strict=True):
        for drawn, (height, width) in zip(ax.images, [(20, 30), erf.map.shape], strict=True):
            left, right, bottom, top = drawn.get_extent()
            assert (right - left, bottom - top) == (width, height)
        alpha = ax.images[1].get_alpha()
        assert 0 <= alpha.min() < alpha.max() == 0.8


def test_squares_have_the_sizes_of_erf_field_and_object() -> None:
    erf = LARGE.expected_erf().profile
    (axes,) = erf_gallery({"best": erf}, objects=OBJECTS).axes
    sides = [patch.get_width() for patch in axes.patches if isinstance(patch, Rectangle)]
    assert sides == [erf.size, erf.theoretical_size, 10]
    assert f"ERF {erf.size} px" in axes.get_title()


def test_objects_in_words() -> None:
    assert str(ObjectSizes(6, 10)) == "6 to 10 px"
    assert str(ObjectSizes(8, 8)) == "8 px"


def test_layers_that_add_no_context_are_crossed_out() -> None:
    layers = architecture_layers(LARGE)
    grown = [layer for layer in layers if layer.grows]
    for side in (4, 1000):
        (axes,) = layer_growth(layers, (side, side), OBJECTS).axes
        idle = [layer for layer in grown if layer.is_unproductive((side, side))]
        assert bool(idle) == (side == 4)
        crosses = [line for line in axes.get_lines() if line.get_marker() == "X"]
        assert [len(line.get_xdata()) for line in crosses] == ([len(idle)] if idle else [])
        line, *_ = axes.get_lines()
        assert list(line.get_ydata()) == [layer.reach.size.high for layer in grown]
        names = [label.get_text() for label in axes.get_xticklabels()]
        assert names == [layer.name for layer in grown]


def test_growth_before_the_network_was_changed() -> None:
    layers, smaller = architecture_layers(LARGE), architecture_layers(LARGE)[:-1]
    (axes,) = layer_growth(layers, (64, 64), before=smaller).axes
    (line,) = (one for one in axes.get_lines() if one.get_label() == "before the changes")
    drawn = list(line.get_ydata())
    assert drawn[:-1] == [layer.reach.size.high for layer in smaller if layer.grows]
    assert np.isnan(drawn[-1])


def test_a_network_that_sees_single_pixels_has_no_growth() -> None:
    with pytest.raises(ValueError, match="layers that make the receptive field larger"):
        layer_growth(architecture_layers(architecture(kernel_size=1))[:1], (8, 8))
