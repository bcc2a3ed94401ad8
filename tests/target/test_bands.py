from __future__ import annotations

import pytest

from rfsearch.target.bands import BANDS, BOUNDS, LAYER_SIZES, band


def test_the_layers_of_zeiler_and_fergus_lie_in_their_bands() -> None:
    assert LAYER_SIZES == (7, 27, 75, 107, 139)
    seen = [band(size, 224) for size in LAYER_SIZES]
    assert seen == ["edges", "edges", "textures", "parts", "objects"]


def test_bands_are_relative_to_the_object() -> None:
    assert pytest.approx((0.2009, 0.3999, 0.5444), abs=1e-4) == BOUNDS
    for size in (3, 10, 30, 100):
        assert band(size, 50) == band(10 * size, 500)


def test_a_bound_belongs_to_the_band_above() -> None:
    assert [band(bound * 100, 100) for bound in BOUNDS] == list(BANDS[1:])
