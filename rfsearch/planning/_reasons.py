"""What was decided for an experiment, in words: each value with its number and its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rfsearch.planning._sizing import ASSUMED, UNITS, UNITS_OF_WHOLE
from rfsearch.planning._spaces import DIVERSITY
from rfsearch.target.target import ERF_PER_OBJECT, MAX_SCALE_RATIO

if TYPE_CHECKING:
    from rfsearch.planning._decisions import Decisions
    from rfsearch.planning._found import Found

#: Most classes that are listed.
_LISTED = 20


def decided(made: Decisions) -> list[tuple[str, ...]]:
    """Rows of decision, value and why."""
    return [
        ("task", made.found.kind, _why_task(made.found)),
        _resolution(made),
        _split(made),
        _target(made),
        _stride(made),
        *_by_contrast(made),
        _space(made),
        _widths(made),
        _baseline(made),
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
    how, number = made.table.get("split"), len(made.survey.sides)
    if how is None:
        why = "A share of each class's files, or the folders as they are split."
    elif made.found.valid:
        why = "The images are split already, by their folders or files."
    elif how == "images":
        why = f"Of {number} images whole ones validate."
    else:
        why = (
            f"Too few images ({number}) to keep whole ones apart: each is divided by a line, and "
            "tiles for training keep clear of objects that validate."
        )
    if made.copies:
        why += f" {made.copies} files are copies of others, and in the same part as these."
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
    pace, passes = made.pace, float(f"{made.passes:.2g}")
    why = (
        f"A typical candidate needs {pace.epoch:.2g} s for a pass over the images, as measured on "
        f"this device with its head and with judging: {passes:g} passes in its time, "
        f"{pace.wanted} being wanted."
    )
    if made.is_hasty:
        why += " Nothing cheaper is known here, so scores will say little: give more time."
    return ("widths", ", ".join(map(str, widths)), why + " Memory is a gate of its own.")


def _baseline(made: Decisions) -> tuple[str, str, str]:
    one = made.baseline
    if one is None:
        why = "None that was tried needs a third to three times the FLOPs of a typical candidate."
        return ("baseline", "none", why)
    why = (
        f"Up to its map of {one.name.partition('@')[2]} px stride it needs {one.ratio:.2g} times "
        "the FLOPs of a typical candidate. It is trained as long, with the same head."
    )
    return ("baseline", one.name, why)


def _time(made: Decisions) -> tuple[str, str, str]:
    time = made.schedule
    beside = [f"{time.controls} controls"] * bool(time.controls)
    beside += ["1 baseline"] * bool(made.baseline)
    value = f"{' + '.join([f'{time.trials} candidates', *beside])}, {time.seconds:g} s each"
    why = (
        f"Of {made.budget:g} s, 70 % are for training; at most {made.pace.most} epochs each, "
        "after which small data sets are known by heart."
    )
    if time.controls:
        why += " Controls are networks that do not fit, to see whether the range is right."
    return ("time", value, why)
