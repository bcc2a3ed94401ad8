"""Small drawings and tables as text, for notebooks: SVG and HTML without any library.

The data classes call these in their `_repr_svg_` and `_repr_html_`, which notebooks look for.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from rfsearch.basics.palette import BLACK, BLUE, GREEN, GREY, LIGHT_GREY
from rfsearch.basics.sides import as_text, joined

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BOX, _GAP = 116, 12
_FONT = "font-family='sans-serif' font-size='11'"
#: Anchors of the colour map viridis, dark to light.
_VIRIDIS = np.array(
    [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], dtype=float
)
#: Side of a map's drawing in px of the screen, and most of the map's pixels along an axis.
_MAP_SIDE, _MOST_PIXELS = 220, 512
#: Ratio of the largest to the smallest |gradient| that the colours tell apart.
_COLOR_RANGE = 1e3


class Part(NamedTuple):
    """A part of a network, such as a stage.

    Attributes:
        name: What it is called.
        lines: What it is made of, one or two short lines.
        stride: Input pixels between neighbouring units of its output, along the coarsest axis.
        size: Theoretical receptive field of those, in px, along the longest axis.
        numbers: Both along all axes, in words.
    """

    name: str
    lines: tuple[str, ...]
    stride: int
    size: int
    numbers: str

    @classmethod
    def of(cls, name: str, lines: tuple[str, ...], fields: Sequence[tuple[int, int, int]]) -> Self:
        """A part whose output sees these fields (start, size and stride) along the axes."""
        _, sizes, strides = zip(*fields, strict=True)
        stride, size = (as_text(joined(values)) for values in (strides, sizes))
        return cls(name, lines, max(strides), max(sizes), f"stride {stride} px, RF {size} px")


def strip(parts: Sequence[Part]) -> str:
    """A network as a row of boxes, with a bar as long as the receptive field below each.

    A box is the lower, the coarser the part's output is. Bars are to scale, in px of the input.
    """
    width = len(parts) * (_BOX + _GAP) + _GAP
    largest = max(part.size for part in parts)
    shapes = []
    for place, part in enumerate(parts):
        left = _GAP + place * (_BOX + _GAP)
        height = 68 - 5 * min(6, math.log2(part.stride))
        top = 6 + (68 - height) / 2
        bar = max(2.0, _BOX * part.size / largest)
        shapes.append(
            f"<rect x='{left}' y='{top:.1f}' width='{_BOX}' height='{height:.1f}' rx='4' "
            f"fill='{BLUE}' fill-opacity='0.12' stroke='{BLUE}'/>"
        )
        texts = [(part.name, 40 - 7 * len(part.lines), " font-weight='bold'")]
        texts += [
            (line, 54 - 7 * len(part.lines) + 14 * i, "") for i, line in enumerate(part.lines)
        ]
        texts += [(part.numbers, 104, "")]
        shapes += [
            f"<text x='{left + _BOX / 2:.1f}' y='{y}' text-anchor='middle'{style}>"
            f"{escape(text)}</text>"
            for text, y, style in texts
        ]
        shapes.append(
            f"<rect x='{left + (_BOX - bar) / 2:.1f}' y='82' width='{bar:.1f}' height='8' "
            f"fill='{GREEN}'/>"
        )
    return _svg(width, 112, shapes)


def bars(counts: Mapping[int, int], label: str) -> str:
    """A histogram over sizes in px, whose bins are half an octave wide.

    Args:
        counts: Candidates at each size; numbers may exceed 2^63.
        label: Under the axis.
    """
    bins: dict[int, int] = {}
    for size, count in counts.items():
        step = math.floor(2 * math.log2(size))
        bins[step] = bins.get(step, 0) + count
    if not bins:
        return ""
    first, last, highest = min(bins), max(bins), max(bins.values())
    shapes = []
    for place, step in enumerate(range(first, last + 1)):
        height = 70 * (bins.get(step, 0) / highest)
        left, size = 10 + 34 * place, math.ceil(2 ** (step / 2))
        shapes.append(
            f"<rect x='{left}' y='{80 - height:.1f}' width='30' height='{height:.1f}' "
            f"fill='{GREEN}'/>"
        )
        shapes.append(f"<text x='{left + 15}' y='94' text-anchor='middle'>{size}</text>")
    width = max(240, 20 + 34 * (last - first + 1))
    shapes.append(f"<line x1='8' y1='80.5' x2='{width - 8}' y2='80.5' stroke='{GREY}'/>")
    shapes.append(f"<text x='10' y='110'>{escape(label)}</text>")
    return _svg(width, 116, shapes)


def heat_map(
    values: NDArray[np.float64], center: Sequence[float], size: int, theoretical_size: float
) -> str:
    """An ERF map with its 95 % square (dashed) and the theoretical receptive field (dotted).

    Args:
        values: |gradient| per pixel, `(height, width)`.
        center: `(y, x)` of the middle of both squares, in the map's pixels.
        size: ERF size in px.
        theoretical_size: Side of the theoretical receptive field in px; NaN if it is not known.
    """
    step = -(-max(values.shape) // _MOST_PIXELS)
    shown = values[::step, ::step]
    height, width = values.shape
    scale = _MAP_SIDE / max(height, width)
    across, down = width * scale, height * scale
    shapes = [
        f"<rect x='10' y='10' width='{across:.1f}' height='{down:.1f}' fill='{LIGHT_GREY}'/>",
        f"<image x='10' y='10' width='{across:.1f}' height='{down:.1f}' "
        f"style='image-rendering:pixelated' href='{_png(shown)}'/>",
    ]
    is_known = not math.isnan(theoretical_size)
    for side, dashes in ((size, "6 4"), *(((theoretical_size, "2 3"),) if is_known else ())):
        left = 10 + (center[1] + 0.5 - side / 2) * scale
        top = 10 + (center[0] + 0.5 - side / 2) * scale
        shapes.append(
            f"<rect x='{left:.1f}' y='{top:.1f}' width='{side * scale:.1f}' "
            f"height='{side * scale:.1f}' fill='none' stroke='#FFFFFF' stroke-width='1.5' "
            f"stroke-dasharray='{dashes}'/>"
        )
    text = f"ERF {size} px (dashed), TRF not known"
    if is_known:
        ratio = size / theoretical_size
        text = f"ERF {size} px (dashed), TRF {theoretical_size} px (dotted), ratio {ratio:.2f}"
    shapes.append(f"<text x='10' y='{down + 26:.0f}'>{escape(text)}</text>")
    return _svg(max(across + 20, 310), down + 34, shapes)


def table(rows: Mapping[str, object], caption: str = "") -> str:
    """Names and values as an HTML table."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    head = f"<caption style='text-align:left'>{escape(caption)}</caption>" if caption else ""
    return f"<table>{head}<tbody>{cells}</tbody></table>"


def _png(values: NDArray[np.float64]) -> str:
    """A map in the colours of viridis, three decades down from its maximum, as a data address."""
    from PIL import Image

    highest = values.max() or 1.0
    depth = np.log(np.maximum(values / highest, 1 / _COLOR_RANGE)) / math.log(_COLOR_RANGE) + 1
    anchors = np.linspace(0, 1, len(_VIRIDIS))
    channels = [np.interp(depth, anchors, _VIRIDIS[:, channel]) for channel in range(3)]
    file = io.BytesIO()
    Image.fromarray(np.stack(channels, axis=-1).round().astype(np.uint8)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _svg(width: float, height: float, shapes: Sequence[str]) -> str:
    # A background of its own keeps black text readable in a dark notebook.
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0f} {height:.0f}' "
        f"width='{width:.0f}' height='{height:.0f}' {_FONT} fill='{BLACK}'>"
        f"<rect width='100%' height='100%' fill='#FFFFFF'/>{''.join(shapes)}</svg>"
    )
