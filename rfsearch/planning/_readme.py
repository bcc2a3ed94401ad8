"""The README of a planned experiment: what there is, and each decision with number and reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rfsearch.planning._reasons import decided

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rfsearch.planning._decisions import Decisions
    from rfsearch.planning._found import Found

#: Most classes that are listed.
_LISTED = 20


def read_me(made: Decisions) -> str:
    """The README in Markdown."""
    lines = [
        f"# {made.found.name}: {made.found.kind}",
        "",
        "Written by `rfsearch init` from the data alone. Everything in `experiment.toml` and",
        "`space.toml` can be edited. `rfsearch run` on this folder searches.",
        "",
        "## What there is",
        "",
        *_table(("measured", "value"), _measured(made)),
        *_classes(made),
        "",
        "## What was decided",
        "",
        *_table(("decision", "value", "why"), decided(made)),
    ]
    return "\n".join(lines) + "\n"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    cells = [head, ("---",) * len(head), *rows]
    return ["| " + " | ".join(one.replace("|", "\\|") for one in row) + " |" for row in cells]


def _measured(made: Decisions) -> list[tuple[str, ...]]:
    one = made.survey
    heights, widths = one.sides.T
    rows = [
        ("images", f"{len(one.sides):,}"),
        ("height of images (px)", _spread(heights)),
        ("width of images (px)", _spread(widths)),
        ("channels", str(one.channels)),
    ]
    if len(one.heights):
        rows += [
            ("objects measured", f"{len(one.heights):,}"),
            ("height of objects (px)", _spread(one.heights)),
            ("width of objects (px)", _spread(one.widths)),
        ]
    if made.found.annotations is not None:
        rows += [
            ("objects in an image", _spread(one.per_image)),
            ("objects whose box meets another's", f"{one.touching:.0%}"),
        ]
    contrast = one.contrast
    rows += [
        (f"contrast: {contrast.measure}", f"{contrast.score:.2f} in {contrast.images} images"),
        ("objects left out", one.skipped),
        ("files left out", one.ignored),
        ("files that are copies of another", str(made.copies)),
    ]
    return [*rows, *(("taken for granted", note) for note in _notes(made.found))]


def _notes(found: Found) -> tuple[str, ...]:
    return found.annotations.notes if found.annotations is not None else ()


def _spread(values: NDArray[Any]) -> str:
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    if low == high == values.min() == values.max():
        return f"{low:g}"
    return f"{low:.4g} / {middle:.4g} / {high:.4g} (5 / 50 / 95 %), {values.max():.4g} at most"


def _classes(made: Decisions) -> list[str]:
    counts = made.survey.by_class
    has_sizes = len(made.survey.heights) == len(made.survey.labels)
    rows: list[tuple[str, ...]] = []
    for name, number in list(counts.items())[:_LISTED]:
        sizes = _spread(made.survey.sizes_of(name)) if has_sizes else "not measured"
        rows.append((name, f"{number:,}", f"{number / len(made.survey.labels):.1%}", sizes))
    more = len(counts) - len(rows)
    return ["", *_table(("class", "number", "share", "size (px)"), rows)] + (
        ["", f"And {more} more classes."] if more else []
    )
