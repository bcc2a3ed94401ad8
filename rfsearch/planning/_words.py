"""The README of a planned experiment: what there is, and each decision with number and reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rfsearch.planning._schedule import EPOCHS, MOST_EPOCHS, epochs_in
from rfsearch.planning._sizing import ASSUMED, UNITS, UNITS_OF_WHOLE
from rfsearch.planning._spaces import DIVERSITY
from rfsearch.target.target import ERF_PER_OBJECT, MAX_SCALE_RATIO

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rfsearch.planning._finding import Found
    from rfsearch.planning._schedule import Schedule
    from rfsearch.planning._sizing import Sizing
    from rfsearch.planning._spaces import Counted
    from rfsearch.planning._survey import Survey

#: Most classes that are listed.
_LISTED = 20


@dataclass(frozen=True, eq=False)
class Decisions:
    """All that was decided, and what it rests on.

    Attributes:
        found: The data.
        survey: What was measured of it.
        sizing: Resolution, tiles, target and output stride.
        table: The table `[data]`.
        relaxed: Whether lower bounds on fields are off, as a threshold finds the objects.
        counted: The space and how many of its candidates fit.
        schedule: Trials and their time.
        train_images: Images or tiles to train on.
        valid_images: The same for validation.
        copies: Files that are the same as another.
        operations: FLOPs of a typical candidate for one image.
        per_second: FLOPs that the device was measured to do in a second of training.
        baselines: Names in timm, and their FLOPs over a typical candidate's.
        budget: Time for the search in seconds.
    """

    found: Found
    survey: Survey
    sizing: Sizing
    table: dict[str, Any]
    relaxed: bool
    counted: Counted
    schedule: Schedule
    train_images: int
    valid_images: int
    copies: int
    operations: float
    per_second: float
    baselines: dict[str, float]
    budget: float


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
        *_table(("decision", "value", "why"), _decided(made)),
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


def _decided(made: Decisions) -> list[tuple[str, ...]]:
    return [
        ("task", made.found.kind, _why_task(made.found)),
        _resolution(made),
        _split(made),
        _target(made),
        _stride(made),
        *_by_contrast(made),
        _space(made),
        _widths(made),
        _baselines(made),
        _time(made),
        ("seeds", "0", "The same for all candidates, so that they differ in nothing else; "
         f"the split's is {made.table.get('seed', 0)}, the first of which both parts show what "
         "there is. Change `[training] seed` and search again to see what chance does."),
    ]  # fmt: skip


def _why_task(found: Found) -> str:
    if found.kind == "classification":
        return f"{len(set(found.labels))} folders of images, one for each class."
    what = "masks of every pixel" if found.kind == "segmentation" else "boxes"
    return f"`{found.source.name}` holds {what}."


def _resolution(made: Decisions) -> tuple[str, str, str]:
    sizing = made.sizing
    target, side = sizing.target, sizing.input_size
    if made.found.kind == "classification":
        value = f"whole images of {side}x{side} px"
        return ("input", value, f"The median shorter side is {side / sizing.scale:g} px.")
    value = f"tiles of {side}x{side} px at {sizing.scale:g} of the resolution"
    cut = (
        f"the largest has {sizing.longest:.0f} px and lies inside of a tile"
        if sizing.longest <= side
        else f"the largest has {sizing.longest:.0f} px and is cut: tiles have {side} px at most"
    )
    return ("input", value, f"Objects then have {target.in_words}; {cut}.")


def _split(made: Decisions) -> tuple[str, str, str]:
    value = f"{made.train_images:,} for training, {made.valid_images:,} for validation"
    how = made.table.get("split")
    if how is None:
        why = "A share of each class's files, or the folders as they are split."
    elif how == "images":
        why = f"Of {len(made.survey.sides)} images whole ones validate."
    else:
        why = (
            f"Too few images ({len(made.survey.sides)}) to keep whole ones apart: each is "
            "divided by a line, and tiles for training keep clear of objects that validate."
        )
    if made.copies:
        why += f" {made.copies} files are copies of others and may be in both parts: remove them."
    return ("split", value, why + " Images of one scene or patient cannot be told apart here.")


def _target(made: Decisions) -> tuple[str, str, str]:
    sizing = made.sizing
    target = sizing.target
    if sizing.is_assumed:
        low, high = ASSUMED
        why = (
            f"Assumed: {low:.0%} to {high:.0%} of the image's side, as nothing says how large "
            "objects are. Edit it if you know better."
        )
    else:
        why = "The 5 % and 95 % quantiles of the objects."
    if sizing.needs_levels:
        ratio = target.max_size / target.min_size
        why += f" They differ by a factor of {ratio:.1f}, and one field fits {MAX_SCALE_RATIO:g}: "
        if "neck" in made.counted.values:
            why += f"so a pyramid of {made.counted.values['neck']['num_levels']} maps shares them."
        else:
            why += f"the search fits the largest.{_narrow_classes(made)}"
    return ("target", target.in_words, why)


def _narrow_classes(made: Decisions) -> str:
    """Classes that one field each would serve."""
    one = made.survey
    if len(one.heights) != len(one.labels) or len(one.by_class) < 2:
        return ""
    ratios = {name: np.quantile(one.sizes_of(name), (0.05, 0.95)) for name in one.by_class}
    narrow = [name for name, (low, high) in ratios.items() if high <= MAX_SCALE_RATIO * low]
    if not narrow:
        return ""
    return (
        f" One field each would serve {', '.join(narrow[:_LISTED])}, in experiments of their own."
    )


def _stride(made: Decisions) -> tuple[str, str, str]:
    if "neck" in made.counted.values:
        steps = [stage["stride"] for stage in made.counted.values["stages"]]
        strides = [int(made.counted.values["stem"]["stride"] * n) for n in np.cumprod(steps)]
        value = f"{', '.join(map(str, strides))} px"
        return ("output strides", value, "Each map is for objects of 4 to 8 of its strides.")
    stride, smallest = made.sizing.max_output_stride, made.sizing.target.shortest
    units = UNITS_OF_WHOLE if made.found.kind == "classification" else UNITS
    return (
        "output stride",
        f"{stride} px at most",
        f"The smallest objects, {smallest:g} px, span {smallest / stride:.1f} units, "
        f"{units} at least.",
    )


def _by_contrast(made: Decisions) -> list[tuple[str, ...]]:
    contrast = made.survey.contrast
    if made.found.kind == "classification" or not contrast.is_enough:
        return []
    finds = f"A threshold alone reaches {contrast.score:.2f} ({contrast.measure})."
    if made.relaxed:
        why = (
            f"{finds} What a pixel is, its own value tells, so a network need not see a whole "
            "object: the lower bound on the field does not bind, and is off. The upper one stays."
        )
        return [("lower bound on the field", "off", why)]
    why = (
        f"{finds} Where an object is, its own pixels tell, so the lower bound on the field does "
        "not bind there; where it ends is seen only with both its ends, so the bound stays on."
    )
    return [("lower bound on the field", "on", why)]


def _space(made: Decisions) -> tuple[str, str, str]:
    one = made.counted
    number = (
        f"{one.low:,.0f}" if one.low == one.high else f"{one.low:,.0f} to {one.high:,.0f} (95 %)"
    )
    if made.relaxed:
        asked = f"an ERF of at most {ERF_PER_OBJECT[1]:g} times the largest object"
    else:
        asked = (
            f"an ERF of {ERF_PER_OBJECT[0]:g} to {ERF_PER_OBJECT[1]:g} times the largest object"
        )
    why = (
        f"Of {one.space.size:,} networks so many have {asked}: enough to choose from, and few "
        f"enough to have neighbours ({DIVERSITY[0]:,} to {DIVERSITY[1]:,} are accepted). Depths, "
        "strides and dilations differ, as these set the field."
    )
    return ("space", f"{number} networks that fit", why)


def _widths(made: Decisions) -> tuple[str, str, str]:
    widths = [made.counted.values["stem"]["width"]]
    widths += [stage["width"] for stage in made.counted.values["stages"]]
    epochs = epochs_in(made.schedule.seconds, made.train_images, made.operations, made.per_second)
    why = (
        f"A typical candidate needs {made.operations / 1e9:.3g} GFLOPs for an image, and this "
        f"device did {made.per_second / 1e9:.3g} GFLOPs a second in training: about {epochs:.3g} "
        f"passes over the images, {EPOCHS} being wanted. Memory is a gate of its own, that of the "
        "device."
    )
    return ("widths", ", ".join(map(str, widths)), why)


def _baselines(made: Decisions) -> tuple[str, str, str]:
    if made.baselines:
        ((name, ratio),) = made.baselines.items()
        return ("baseline", name, f"It needs {ratio:.2g} times the FLOPs of a typical candidate.")
    if made.found.kind == "classification":
        why = "None that was tried needs a third to three times the FLOPs of a typical candidate."
    else:
        why = "Networks of timm end at strides of 32 px, on which the objects are not resolved."
    return ("baseline", "none", why)


def _time(made: Decisions) -> tuple[str, str, str]:
    time = made.schedule
    beside = [f"{time.controls} controls"] * bool(time.controls)
    beside += [f"{len(made.baselines)} baseline"] * bool(made.baselines)
    value = f"{' + '.join([f'{time.trials} candidates', *beside])}, {time.seconds:g} s each"
    why = (
        f"Of {made.budget:g} s, 70 % are for training; at most {MOST_EPOCHS} epochs each, after "
        "which small data sets are known by heart."
    )
    if time.controls:
        why += " Controls are networks that do not fit, to see whether the range is right."
    return ("time", value, why)
