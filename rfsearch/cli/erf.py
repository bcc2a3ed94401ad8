"""`rfsearch erf`: which pixels do matter to a unit, in numbers and as a picture."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rfsearch.basics.atomic import atomic_file
from rfsearch.basics.axes import by_x
from rfsearch.cli._errors import user_mistakes
from rfsearch.cli._models import (
    CHANNELS_HELP,
    CHECKPOINT_HELP,
    MODEL_HELP,
    RATE_HELP,
    SPACING_HELP,
    check_png,
    load_model,
    pixel_spacing,
)

if TYPE_CHECKING:
    from rfsearch.basics.spacing import Spacing
    from rfsearch.field.expected_erf import ExpectedERF
    from rfsearch.measure.erf import MeasuredERF
    from rfsearch.models.resolved import ResolvedModel

_SIZE_HELP = (
    "Input in px, as 224, HEIGHTxWIDTH or DEPTHxHEIGHTxWIDTH. By default 224 (4096 of a sequence, "
    "64 of a volume), or an export's own, or as much more as the receptive field needs, up to "
    "1024 (65536; 128)."
)


def erf(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    layer: Annotated[
        str | None, typer.Option(help="Look at this layer's output, as layer2.0.conv1.")
    ] = None,
    level: Annotated[
        str | None, typer.Option(help="Look at this map, where the model has several, as P3.")
    ] = None,
    input_size: Annotated[str | None, typer.Option(help=_SIZE_HELP)] = None,
    spacing: Annotated[str | None, typer.Option(help=SPACING_HELP)] = None,
    sample_rate: Annotated[float | None, typer.Option(help=RATE_HELP)] = None,
    in_chans: Annotated[int | None, typer.Option(help=CHANNELS_HELP)] = None,
    images: Annotated[
        Path | None, typer.Option(help="A folder of images; by default white noise.")
    ] = None,
    num_images: Annotated[int, typer.Option(help="Look at so many images at most.")] = 64,
    relative_error: Annotated[
        float, typer.Option(help="Stop at this standard error of the ERF size, over that size.")
    ] = 0.01,
    pretrained: Annotated[bool, typer.Option(help="Use the model's published weights.")] = False,
    checkpoint: Annotated[Path | None, typer.Option(help=CHECKPOINT_HELP)] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, noise and signs.")] = 0,
    expected: Annotated[
        bool,
        typer.Option(help="Beside it the ERF of a random initialisation, without any image."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="Draw the map into this PNG file.")] = None,
) -> None:
    """Measure which pixels matter to the middle unit of a network, or of any of its layers."""
    with user_mistakes():
        check_png(out, "--out")
        resolved = load_model(
            model,
            input_size,
            in_chans=in_chans,
            default_size=224,
            pretrained=pretrained,
            checkpoint=checkpoint,
            seed=seed,
        )
        pixels = pixel_spacing(model, resolved.num_axes, spacing, sample_rate)
        from rfsearch.measure.erf import measure_erf

        beside = _expected(resolved, layer, level) if expected else None
        measure = partial(
            measure_erf,
            images=images,
            num_images=num_images,
            relative_error=relative_error,
            layer=layer,
            level=level,
            device=device,
            seed=seed,
        )
        measured = measure(resolved, None if input_size is None else resolved.input_size)
        untrained = None
        if checkpoint is not None or pretrained:
            as_made = load_model(model, input_size, in_chans=in_chans, default_size=224, seed=seed)
            untrained = measure(as_made, measured.map.shape)
    size = measured.map.shape
    numbers = {"model": model, "layer": layer, "input_size": list(size), **summary(measured)}
    if pixels is not None:
        numbers["axes"] = in_units(numbers["axes"], pixels)
    if beside is not None:
        numbers["expected"] = {
            name: getattr(beside, name) for name in ("size", "theoretical_size", "ratio", "sigma")
        }
    if untrained is not None:
        numbers["untrained"] = summary(untrained)
    typer.echo(json.dumps(numbers, indent=2) if as_json else _table(numbers))
    if out is not None:
        title = f"{model}, {layer or 'output'}, {by_x(size)} px\nweights: {measured.weights}"
        _draw(measured, title, out, beside)


def _expected(model: ResolvedModel, layer: str | None, level: str | None) -> ExpectedERF:
    """That of the unit which is measured."""
    from rfsearch.measure.read import reader
    from rfsearch.trace.trace import expected_erf

    read = reader(model.twin(), layer, level, model.run)
    return expected_erf(model, model.input_size, forward=read)


def summary(measured: MeasuredERF) -> dict[str, Any]:
    """All numbers of a measured ERF by name, fit for JSON: sizes in px, shares from 0 to 1.

    What is not known is None.
    """
    numbers = {
        "size": measured.size,
        "standard_error": measured.standard_error,
        "theoretical_size": measured.theoretical_size,
        "ratio": measured.ratio,
        "sigma": measured.sigma,
        "fwhm": measured.fwhm,
        "luo_size": measured.luo_size,
        "luo_count": measured.luo_count,
        "fraction_above_10_percent": measured.fraction_above(0.1),
        "squares": {f"{share:.0%}": side for share, side in measured.squares().items()},
        "clipped": measured.clipped,
        "num_images": measured.num_images,
        "calibrated": measured.calibrated,
        "reset_scales": list(measured.reset_scales),
        "weights": measured.weights,
        "untraced": measured.untraced,
    }
    axes = {name: _known(one._asdict()) for name, one in measured.axes.items()}
    return _known(numbers) | {"axes": axes}


def _known(numbers: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in numbers.items()
    }


def in_units(axes: dict[str, dict[str, Any]], spacing: Spacing) -> dict[str, dict[str, Any]]:
    """The numbers of each axis, and each of them in mm or ms too."""
    return {
        axis: numbers
        | {
            f"{name}_{spacing.unit}": None if value is None else value * size
            for name, value in numbers.items()
        }
        for (axis, numbers), size in zip(axes.items(), spacing.sizes, strict=True)
    }


def _of_axis(numbers: dict[str, Any]) -> str:
    """The numbers of one axis in words."""
    unit = next((name.removeprefix("size_") for name in numbers if name[:5] == "size_"), None)

    def px(name: str, form: str) -> str:
        value = numbers[name]
        if value is None:
            return "not known"
        words = f"{value:{form}} px"
        return words if unit is None else f"{words} ({numbers[f'{name}_{unit}']:.4g} {unit})"

    return (
        f"ERF {px('size', 'd')}, sigma {px('sigma', '.1f')}, FWHM {px('fwhm', 'd')}, "
        f"theoretical {px('theoretical_size', 'g')}"
    )


def _table(numbers: dict[str, Any]) -> str:
    error = numbers["standard_error"]
    spread = "unknown (one image)" if error is None else f"{error:.2g} px"
    squares = ", ".join(f"{share} {side}" for share, side in numbers["squares"].items())
    rows = {
        "ERF size": f"{numbers['size']} px (95 % of the |gradient|), standard error {spread}",
        "theoretical RF": f"not known: {numbers['untraced']}",
        "sigma": f"{numbers['sigma']:.1f} px",
        "FWHM": f"{numbers['fwhm']} px",
        "Luo's size": f"{numbers['luo_size']:.1f} px ({numbers['luo_count']} pixels)",
        "above 10 %": "not known",
        "squares": f"{squares} px",
        "clipped": "not known",
        "images": str(numbers["num_images"]),
        "weights": numbers["weights"],
    }
    if not numbers["untraced"]:
        field, above, clipped = (
            numbers[name] for name in ("theoretical_size", "fraction_above_10_percent", "clipped")
        )
        rows |= {
            "theoretical RF": f"{field} px, ERF ratio {numbers['ratio']:.3f}",
            "above 10 %": f"{above:.1%} of the theoretical RF's pixels",
            "clipped": f"{clipped:.1%} of the theoretical RF's area is outside the input",
        }
        if clipped > 0:
            rows["ERF size"] += ", too small: the input clips it"
    axes = numbers["axes"]
    if len(axes) != 2 or len({*map(str, axes.values())}) > 1 or "size_mm" in axes["height"]:
        rows |= {f"along {axis}": _of_axis(one) for axis, one in axes.items()}
    if beside := numbers.get("expected"):
        rows["expected ERF"] = (
            f"{beside['size']} px, sigma {beside['sigma']:.1f} px, of a random initialisation"
        )
    if untrained := numbers.get("untrained"):
        rows["untrained"] = (
            f"{untrained['size']} px, sigma {untrained['sigma']:.1f} px, FWHM {untrained['fwhm']} "
            f"px, {untrained['weights']}"
        )
    if numbers["calibrated"]:
        rows["statistics"] = "batch statistics were unset and taken from the images"
    if numbers["reset_scales"]:
        rows["branches"] = f"{len(numbers['reset_scales'])} zero-initialised scales set to one"
    return "\n".join(f"{name:<16}{text}" for name, text in rows.items())


def _draw(measured: MeasuredERF, title: str, out: Path, beside: ExpectedERF | None) -> None:
    from rfsearch.analysis.erf_sections import erf_figure

    figure = erf_figure(measured, title, None if beside is None else beside.profile)
    with atomic_file(out) as new:
        figure.savefig(new, dpi=150)
    typer.echo(f"Drawn into {out}.", err=True)
