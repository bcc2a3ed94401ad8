"""What several commands need: a model, the size of its input, a target, a device, a picture."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from rfsearch.basics.spacing import Spacing
    from rfsearch.diagnosis.layer_field import LayerField
    from rfsearch.models.resolved import ResolvedModel
    from rfsearch.target.target import ScaleTarget

MODEL_HELP = (
    "A timm model's name, an architecture's JSON or TOML file, a folder of `rfsearch export` or "
    "`rfsearch train`, or PACKAGE.MODULE:FUNCTION, which is imported and called for a module."
)
SIZE_HELP = (
    "Input in px, as 224 or HEIGHTxWIDTH; as 16000 of a sequence and DEPTHxHEIGHTxWIDTH of a "
    "volume. By default the model's own, or 224 (4096; 64)."
)
SPACING_HELP = "Size of a pixel in mm, as 0.7 or 3.0x0.7x0.7: fields are shown in mm too."
RATE_HELP = "Samples in a second of a sequence: fields are shown in ms too."
MEASURED_SIZE_HELP = "Input in px, as 224 or HEIGHTxWIDTH. By default 224, or an export's own."
CHANNELS_HELP = "Channels of the input. By default those that the model turns out to take."
DEVICE_HELP = "cpu, cuda, ...: by default CUDA where there is a device."
CHECKPOINT_HELP = "Weights: a state_dict, of safetensors or of torch.save."
TARGET_HELP = "Smallest and largest object in px, as 24:96; or height and width, as 8:12x90:140."


def load_model(
    name: str,
    input_size: str | None,
    *,
    in_chans: int | None = None,
    default_size: int | None = None,
    checkpoint: Path | None = None,
    **options: Any,
) -> ResolvedModel:
    """The model that the user means: the door that the commands share.

    Args:
        name: An architecture's file, a folder of an exported network, or a timm model's name.
        input_size: As the user gave it. `None` means an exported network's own; of other models
            `default_size`, or the one that the model states.
        in_chans: Channels of the input.
        default_size: Side of images in px.
        checkpoint: File of the weights that it is given.
        **options: For `resolve_model`.

    Raises:
        ValueError: If there is no such model, or it does not take that input.
    """
    size = parse_size(input_size) if input_size is not None else None
    from rfsearch.models.resolve import resolve_model

    path = Path(name)
    options["checkpoint"] = checkpoint
    is_folder = path.is_dir() and not _is_timm_name(name)
    if ":" in name and not path.exists():
        return resolve_model(
            imported(name, options.get("seed", 0)), size, in_chans=in_chans, **options
        )
    model = path if is_folder or path.suffix == ".json" or path.is_file() else name
    if size is None and default_size is not None and not is_folder:
        size = (default_size, default_size)
    return resolve_model(model, size, in_chans=in_chans, **options)


def imported(name: str, seed: int) -> nn.Module:
    """The module that `PACKAGE.MODULE:FUNCTION` gives; as Python, it looks in this folder first.

    Raises:
        ValueError: If it cannot be imported, fails, or gives no module.
    """
    from torch import nn

    from rfsearch.models.timm_models import seeded

    place, _, attribute = name.partition(":")
    sys.path.insert(0, "")
    try:
        found = attrgetter(attribute)(import_module(place))
        model = found if isinstance(found, nn.Module) else seeded(found, seed)
    except Exception as error:  # Whatever the user's own code raises.
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{name!r} must name a function that makes a module, but: "
            f"{type(error).__name__}: {reason}"
        ) from error
    finally:
        sys.path.remove("")
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name!r} must give a torch module, but gives {type(model).__name__}.")
    return model


def pixel_spacing(
    model: str, num_axes: int, spacing: str | None, sample_rate: float | None
) -> Spacing | None:
    """What `--spacing` or `--sample-rate` say, if either is given.

    Raises:
        ValueError: If it is not of the model's axes, or both are given.
    """
    from rfsearch.basics.spacing import Spacing, parse_spacing

    if spacing is not None and sample_rate is not None:
        raise ValueError("Only one of --spacing and --sample-rate can be given.")
    if spacing is not None:
        return parse_spacing(spacing, num_axes)
    return None if sample_rate is None else Spacing.of_samples(sample_rate, num_axes)


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


def parse_size(text: str) -> int | tuple[int, ...]:
    """The side in px of `--input-size`, or one for each axis.

    Raises:
        ValueError: If it is no size.
    """
    is_size = re.fullmatch(r"\d{1,20}(?:x\d{1,20}){0,2}", text)
    from rfsearch.basics.limits import MAX_INPUT_SIDE

    sides = tuple(map(int, text.split("x"))) if is_size else (0,)
    if not all(1 <= side <= MAX_INPUT_SIDE for side in sides):
        raise ValueError(
            "--input-size must be SIDE or HEIGHTxWIDTH in px, each from 1 to "
            f"{MAX_INPUT_SIDE:,}, or DEPTHxHEIGHTxWIDTH, but got {text!r}."
        )
    return sides if len(sides) > 1 else sides[0]


def parse_memory(text: str) -> float:
    """An amount of memory such as `4GB` or `500 MiB`, in MiB.

    Raises:
        ValueError: If it is none.
    """
    found = re.fullmatch(r"\s*([\d.]+)\s*([KMGT])(i?)B?\s*", text, re.IGNORECASE)
    try:
        number = float(found[1]) if found else 0.0
    except ValueError:
        number = 0.0
    if found is None or not 0 < number < 1e6:
        raise ValueError(f"--memory must be an amount such as 4GB or 500MiB, but got {text!r}.")
    base, power = 1024 if found[3] else 1000, "KMGT".index(found[2].upper()) + 1
    return number * float(base**power) / 2**20


def parse_image_size(text: str) -> tuple[int, int]:
    """Height and width in px of images.

    Raises:
        ValueError: If it is no size of two axes.
    """
    size = parse_size(text)
    sides = (size, size) if isinstance(size, int) else size
    if len(sides) != 2:
        raise ValueError(f"--input-size must be SIDE or HEIGHTxWIDTH here, but got {text!r}.")
    return sides


def chosen_device(device: str | None) -> str:
    """The device of `--device`, or CUDA where there is one, else the CPU.

    Raises:
        ValueError: If torch cannot use it.
    """
    import torch

    from rfsearch.measure.device import check_device

    check_device(device)
    return device if device is not None else ("cuda" if torch.cuda.is_available() else "cpu")


def check_png(path: Path | None, option: str) -> None:
    """Check the file of a picture before any work is done for it.

    Raises:
        ValueError: If it is no PNG file, or in no folder.
    """
    if path is not None and path.suffix.lower() != ".png":
        raise ValueError(f"{option} must name a PNG file, but got {str(path)!r}.")
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"{option} must be in a folder that exists, but {path.parent} does not.")
