"""`rfsearch target`: which objects a network must see, from annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from rfsearch.basics.atomic import atomic_file
from rfsearch.cli._errors import user_mistakes
from rfsearch.cli._models import check_png, parse_image_size

if TYPE_CHECKING:
    from rfsearch.target.object_scales import ObjectScales
    from rfsearch.target.target import ScaleTarget


def target(
    annotations: Annotated[
        Path,
        typer.Argument(
            help="COCO .json or .csv; VOC, CVAT, LabelMe or YOLO file or folder; mask or folder."
        ),
    ],
    input_size: Annotated[
        str | None,
        typer.Option(help="Of the network in px, as 256 or HEIGHTxWIDTH. By default no resizing."),
    ] = None,
    format: Annotated[
        str, typer.Option(help="auto, coco, voc, yolo, labelme, cvat, masks or csv.")
    ] = "auto",
    resize: Annotated[
        str | None,
        typer.Option(help="none (tiles), stretch, letterbox (the default) or shorter."),
    ] = None,
    quantiles: Annotated[
        tuple[float, float], typer.Option(help="Of the object sizes that the target spans.")
    ] = (0.05, 0.95),
    only_class: Annotated[
        list[str] | None, typer.Option("--class", help="Look at this class; may be repeated.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, to check.")] = None,
    semantic: Annotated[
        bool | None,
        typer.Option("--semantic/--instances", help="Values of masks are classes, or objects."),
    ] = None,
    background: Annotated[
        str | None, typer.Option(help="Value of the background of masks, or none; 0 by default.")
    ] = None,
    ignored: Annotated[
        list[str] | None,
        typer.Option(help="Value of masks not to look at, or none; may be repeated."),
    ] = None,
    context: Annotated[
        float | None, typer.Option(help="Side of what must be seen, in object sizes, from 1 on.")
    ] = None,
    dense: Annotated[
        bool | None, typer.Option("--dense/--no-dense", help="Whether every pixel is predicted.")
    ] = None,
    levels: Annotated[
        str | None, typer.Option(help="Split over a pyramid of these strides in px, as 4,8,16,32.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the sizes into this PNG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure annotated objects: the target, the receptive fields that fit, and pyramid levels."""
    with user_mistakes():
        from rfsearch.target.questions import Needs
        from rfsearch.target.report import TargetReport
        from rfsearch.target.scales import read_scales

        check_png(picture, "--picture")
        strides = parse_levels(levels) if levels is not None else {}
        scales = read_scales(
            annotations,
            parse_image_size(input_size) if input_size is not None else None,
            resize,  # type: ignore[arg-type]  # any text is checked there
            format=format,  # type: ignore[arg-type]  # and so is this
            images=images,
            semantic=semantic,
            background=_mask_value("--background", background) if background is not None else None,
            ignored=_ignored(ignored) if ignored is not None else None,
            classes=only_class or (),
        )
        objects = _rounded_target(scales, quantiles)
        needs = Needs(objects, context, dense, scales.are_masks)
        parts = objects.split(strides) if strides else {}
    report = TargetReport(str(annotations), scales, quantiles, needs, strides, parts)
    if as_json:
        typer.echo(json.dumps(report.as_data(), indent=2))
    else:
        report.print(Console())
    if picture is not None:
        from rfsearch.target.scale_plot import scale_histogram

        with atomic_file(picture) as new:
            scale_histogram(scales, objects, parts).savefig(new, dpi=150)
        typer.echo(f"Drawn into {picture}.", err=True)


def parse_levels(text: str) -> dict[str, int]:
    """Strides in px by the names of levels, which say the power of two where it is one.

    Raises:
        ValueError: If these are no strides.

    >>> parse_levels("4,8,12")
    {'P2': 4, 'P3': 8, 'stride 12': 12}
    """
    try:
        strides = [int(part) for part in text.split(",")]
    except ValueError:
        strides = [0]
    if min(strides) < 1 or len(set(strides)) < len(strides):
        raise ValueError(
            f"--levels must be different strides in px, as 4,8,16,32, but got {text!r}."
        )
    return {_level_name(stride): stride for stride in strides}


def _ignored(texts: list[str]) -> list[int]:
    values = [_mask_value("--ignored", text) for text in texts]
    return [value for value in values if value != "none"]


def _mask_value(option: str, text: str) -> int | Literal["none"]:
    if text == "none":
        return "none"
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{option} must be a whole number or none, but got {text!r}.") from None


def _level_name(stride: int) -> str:
    is_power = stride & (stride - 1) == 0
    return f"P{stride.bit_length() - 1}" if is_power else f"stride {stride}"


def _rounded_target(scales: ObjectScales, quantiles: tuple[float, float]) -> ScaleTarget:
    """The target to 0.1 px, so that what is printed is what it was reckoned from."""
    from rfsearch.target.target import ScaleTarget

    exact = ScaleTarget.from_boxes(scales.heights, scales.widths, quantiles, quiet=True)
    along = [exact.along(axis) for axis in exact.axes] or [exact]
    bounds = [_rounded(one.min_size, one.max_size) for one in along]
    if exact.axes:
        return ScaleTarget.apart(*bounds, quiet=True)
    return ScaleTarget(*bounds[0], quiet=True)


def _rounded(low: float, high: float) -> tuple[float, float]:
    return max(0.1, round(low, 1)), max(0.1, round(high, 1))
