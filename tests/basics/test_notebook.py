from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers import architecture, resnet, stage_dict
from hypothesis import given
from PIL import Image
from strategies import architectures

from rfsearch.basics.notebook import bars, table
from rfsearch.field.erf_map import Center, ErfMap
from rfsearch.network.architecture import Architecture
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@given(architectures())
def test_the_strip_names_every_part_and_the_field_at_the_end(found: Architecture) -> None:
    written = texts(found._repr_svg_())
    field = found.receptive_field()
    fields = [text for text in written if text.startswith("stride ")]
    assert len(fields) == 1 + len(found.stages) + (len(found.levels) if found.neck else 0)
    assert fields[-1] == f"stride {field.stride} px, RF {field.size} px"
    assert f"stage {len(found.stages)}" in written


def test_bars_are_as_long_as_the_fields() -> None:
    network = resnet("basic", (2, 2))
    root = ElementTree.fromstring(network._repr_svg_())
    drawn = [float(r.get("width", 0)) for r in root.iter(f"{SVG}rect") if r.get("height") == "8"]
    sizes = [
        int(found)
        for text in texts(network._repr_svg_())
        for found in re.findall(r"RF (\d+) px", text)
    ]
    assert np.array(drawn) / drawn[-1] == pytest.approx(np.array(sizes) / sizes[-1], abs=0.02)


def test_blocks_are_named_once_each() -> None:
    network = architecture(stage_dict(kernels=(3, 5, 3), dilation=2, width=8))
    assert {"3 plain, 8 ch", "3x3 dil. 2, 5x5 dil. 2"} <= set(texts(network._repr_svg_()))


def test_a_map_is_drawn_pixel_by_pixel_with_its_squares() -> None:
    values = np.zeros((20, 40))
    values[5:10, 10:15] = 1 / 25
    erf = ErfMap(values, values, Center(7, 12), 9)
    root = ElementTree.fromstring(erf._repr_svg_())
    (image,) = root.iter(f"{SVG}image")
    data = base64.b64decode(str(image.get("href")).partition("base64,")[2])
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert picture.shape == (20, 40, 3)
    assert tuple(picture[7, 12]) == (253, 231, 37)
    assert tuple(picture[0, 0]) == (68, 1, 84)
    scale = float(image.get("width", 0)) / 40
    squares = [r for r in root.iter(f"{SVG}rect") if r.get("stroke-dasharray")]
    assert [float(r.get("width", 0)) / scale for r in squares] == pytest.approx([5, 9], abs=0.05)
    assert float(squares[0].get("x", 0)) == pytest.approx(10 + 10 * scale, abs=0.06)


def test_an_expected_erf_is_its_map() -> None:
    found = resnet("basic", (1,)).expected_erf()
    assert found._repr_svg_() == found.profile._repr_svg_()


def test_a_large_expected_erf_is_not_drawn() -> None:
    assert resnet("basic", (3, 4, 23, 9)).expected_erf()._repr_svg_() is None


def test_a_space_lists_its_choices() -> None:
    html = SearchSpace.load("toy")._repr_html_()
    root = ElementTree.fromstring(html)
    rows = {row[0].text: row[1].text for row in root.iter("tr")}
    for name in SearchSpace.load("toy").distributions():
        assert name in rows
    assert "108 architectures" in html


def test_a_feasible_set_says_how_many_fit() -> None:
    space = SearchSpace.load("toy")
    feasible = space.feasible(RFConstraint(theoretical=(15, 40), effective=None))
    html = feasible._repr_html_()
    assert f"{feasible.count:,} of 108" in html
    assert "15 to 40 px" in html
    assert "<svg" in html


def test_bounds_are_called_bounds() -> None:
    space = SearchSpace.load("plain")
    feasible = space.feasible(RFConstraint(theoretical=(24, 96), effective=(20, 60)))
    assert not feasible.is_exact
    assert "at most" in feasible._repr_html_()


def test_bars_of_counts_beyond_64_bits() -> None:
    root = ElementTree.fromstring(bars({8: 2**70, 16: 2**69}, "a < b"))
    heights = [float(r.get("height", 0)) for r in root.iter(f"{SVG}rect") if r.get("x")]
    assert heights == [70, 0, 35]
    assert bars({}, "none") == ""


def test_text_is_no_markup() -> None:
    html = table({"<b>": "<script>"}, "<i>")
    assert re.findall(r"<(?:b|i|script)>", html) == []
    assert "&lt;script&gt;" in html
