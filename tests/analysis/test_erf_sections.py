"""What is drawn of the ERF of a sequence and of a volume."""

from __future__ import annotations

import numpy as np
import pytest

from rfsearch.analysis.erf_sections import erf_figure
from rfsearch.field.erf_map import ErfMap


def box(shape: tuple[int, ...], sides: tuple[int, ...], *, known: bool = True) -> ErfMap:
    """An ERF that is even in a box around the centre, inside a field two px larger."""
    center = tuple((pixels - 1) / 2 for pixels in shape)
    values = np.zeros(shape)
    pairs = zip(shape, sides, strict=True)
    values[tuple(slice((n - side) // 2, (n + side) // 2) for n, side in pairs)] = 1
    values /= values.sum()
    fields = tuple(side + 2 for side in sides)
    if not known:
        return ErfMap(values, values, center, float("nan"))
    return ErfMap(values, values, center, max(fields), theoretical_sizes=fields)


def test_numbers_along_each_axis() -> None:
    erf = box((20, 30, 40), (4, 6, 10))
    assert {axis: one.fwhm for axis, one in erf.axes.items()} == {
        "depth": 4,
        "height": 6,
        "width": 10,
    }
    assert erf.axes["height"].theoretical_size == 8
    assert erf.axes["width"].sigma == pytest.approx(np.sqrt((10**2 - 1) / 12))
    assert (erf.size, erf.square(0.3)) == (10, 6)
    assert erf.fraction_above() == pytest.approx(4 * 6 * 10 / (6 * 8 * 12))


@pytest.mark.parametrize("known", [True, False])
def test_a_sequence_is_a_curve(known: bool) -> None:
    erf = box((64,), (8,), known=known)
    figure = erf_figure(erf, "title", erf)
    (axes,) = figure.axes
    curves = [line for line in axes.lines if len(line.get_xdata()) == 64]
    assert len(curves) == 2
    # |gradient| over its mean: 64 samples, of which 8 hold all.
    assert max(curves[0].get_ydata()) == pytest.approx(8)
    dashed = sorted(line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2)
    assert dashed[0] == 31.5 - erf.size / 2
    assert len(axes.patches) == int(known)


@pytest.mark.parametrize("known", [True, False])
def test_a_volume_is_three_sections(known: bool) -> None:
    erf = box((20, 30, 40), (4, 6, 10), known=known)
    figure = erf_figure(erf, "title", erf)
    *sections, _bar = figure.axes
    assert len(sections) == 6
    shapes = [axes.images[0].get_array().shape for axes in sections[:3]]
    assert shapes == [(30, 40), (20, 40), (20, 30)]
    boxes = [axes.patches[0] for axes in sections[:3]]
    sides = [(one.get_height(), one.get_width()) for one in boxes]
    depth, height, width = erf.sizes
    assert sides == [(height, width), (depth, width), (depth, height)]
    assert all(len(axes.patches) == 1 + known for axes in sections)
    labels = [axes.get_ylabel() for axes in sections[:3]]
    assert labels == ["height, px", "depth, px", "depth, px"]
