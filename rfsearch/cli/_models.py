"""What several commands need: a model and how large its input is, a target, a picture's file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rfsearch.diagnosis.layer_field import LayerField
    from rfsearch.models.resolved import ResolvedModel
    from rfsearch.target.target import ScaleTarget

MODEL_HELP = (
    "A timm model's name, an architecture's JSON file, or a folder of `rfsearch export` or "
    "`rfsearch train`."
)
SIZE_HELP = "Input in px, as 224 or HEIGHTxWIDTH. By default the model's own, or 224."
MEASURED_SIZE_HELP = "Input in px, as 224 or HEIGHTxWIDTH. By default 224, or an export's own."
CHANNELS_HELP = "Channels of the input. By default those that the model turns out to take."
TARGET_HELP = "Smallest and largest object in px, as 24:96."


def load_model(
    name: str,
    input_size: str | None,
    *,
    in_chans: int | None = None,
    default_size: int | None = None,
    **options: Any,
) -> ResolvedModel:
    """The model that the user means: the door that the commands share.

    Args:
        name: An architecture's file, a folder of an exported network, or a timm model's name.
        input_size: As the user gave it. `None` means an exported network's own; of other models
            `default_size`, or the one that the model states.
        in_chans: Channels of the input.
        default_size: Side in px.
        **options: For `resolve_model`.

    Raises:
        ValueError: If there is no such model, or it does not take that input.
    """
    size = parse_size(input_size) if input_size is not None else None
    from rfsearch.models.resolve import resolve_model

    path = Path(name)
    is_folder = path.is_dir() and not _is_timm_name(name)
    model = path if is_folder or path.suffix == ".json" or path.is_file() else name
    if size is None and default_size is not None and not is_folder:
        size = (default_size, default_size)
    return resolve_model(model, size, in_chans=in_chans, **options)


def _is_timm_name(name: str) -> bool:
    from rfsearch.models.timm_models import is_known

    return is_known(name)


def parse_target(text: str) -> ScaleTarget:
    """The target of `--target`: a range of sizes, or one of heights and one of widths.

    Raises:
        ValueError: If it is neither.
    """
    from rfsearch.target.target import ScaleTarget

    try:
        ranges = [tuple(map(float, one.split(":"))) for one in text.split("x")]
        if {len(one) for one in ranges} != {2} or len(ranges) > 2:
            raise ValueError
    except ValueError:
        raise ValueError(
            "--target must be MIN:MAX in px, as 24:96, or those of height and width, as "
            f"8:12x100:140, but got {text!r}."
        ) from None
    first, *others = [(low, high) for low, high in ranges]
    return ScaleTarget.apart(first, *others) if others else ScaleTarget(*first)


def of_layer(layers: Sequence[LayerField], name: str | None) -> tuple[LayerField, ...]:
    """The layer of a name and those inside it; all of them for None.

    Raises:
        ValueError: If there is no such layer.
    """
    if name is None:
        return tuple(layers)
    found = tuple(one for one in layers if re.match(re.escape(name) + r"($|[.\[ ])", one.name))
    if not found:
        near = difflib.get_close_matches(name, [one.name for one in layers], n=3, cutoff=0.4)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise ValueError(f"--layer must be a layer of the model, but got {name!r}{hint}.")
    return found


def parse_size(text: str) -> tuple[int, int]:
    """Height and width in px of `--input-size`.

    Raises:
        ValueError: If it is no size.
    """
    match = re.fullmatch(r"(\d{1,20})(?:x(\d{1,20}))?", text)
    from rfsearch.basics.limits import MAX_INPUT_SIDE

    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not all(1 <= side <= MAX_INPUT_SIDE for side in size):
        raise ValueError(
            "--input-size must be SIDE or HEIGHTxWIDTH in px, each from 1 to "
            f"{MAX_INPUT_SIDE:,}, but got {text!r}."
        )
    return size


def check_png(path: Path | None, option: str) -> None:
    """Check the file of a picture before any work is done for it.

    Raises:
        ValueError: If it is no PNG file, or in no folder.
    """
    if path is not None and path.suffix.lower() != ".png":
        raise ValueError(f"{option} must name a PNG file, but got {str(path)!r}.")
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"{option} must be in a folder that exists, but {path.parent} does not.")
