"""`rfsearch rf`: what each layer of a network sees."""

from __future__ import annotations

import csv
import json
import sys
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from rfsearch.basics.axes import by_x
from rfsearch.cli._errors import user_mistakes
from rfsearch.cli._models import (
    CHANNELS_HELP,
    MODEL_HELP,
    RATE_HELP,
    SIZE_HELP,
    SPACING_HELP,
    TARGET_HELP,
    check_png,
    load_model,
    of_layer,
    parse_image_size,
    parse_target,
    pixel_spacing,
)
from rfsearch.cli._output import print_table

if TYPE_CHECKING:
    from rich.table import Table

    from rfsearch.basics.spacing import Spacing
    from rfsearch.diagnosis.layer_field import LayerField
    from rfsearch.diagnosis.network_fields import NetworkFields
    from rfsearch.target.target import ScaleTarget

_TEXT_WIDTH = 80
#: Types of modules that look at single positions: a change that shows first in one of them comes
#: from the operation before it, so the block around it names the place better.
_POINTWISE = ("act", "drop", "elu", "gelu", "identity", "norm", "relu", "sigmoid", "silu", "swish")


def rf(
    model: Annotated[
        str, typer.Argument(help=f"{MODEL_HELP[:-1]}, or a TOML file with [[layers]].")
    ],
    input_size: Annotated[str | None, typer.Option(help=SIZE_HELP)] = None,
    in_chans: Annotated[int | None, typer.Option(help=CHANNELS_HELP)] = None,
    spacing: Annotated[str | None, typer.Option(help=SPACING_HELP)] = None,
    sample_rate: Annotated[float | None, typer.Option(help=RATE_HELP)] = None,
    target: Annotated[
        str | None,
        typer.Option(help=f"{TARGET_HELP} What a layer sees is relative to the largest."),
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Only this layer, and those in it.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also the layers that change nothing in the table.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All layers as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="All layers as CSV.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Draw how the receptive field grows into this PNG file.")
    ] = None,
) -> None:
    """Show the theoretical receptive field of each layer and output, and what it can see."""
    with user_mistakes():
        if as_json and as_csv:
            raise ValueError("Only one of --json and --csv can be given.")
        objects = parse_target(target) if target is not None else None
        check_png(out, "--out")
        shown = _load(model, input_size, in_chans)
        pixels = pixel_spacing(shown.name, len(shown.input_size), spacing, sample_rate)
        shown = shown._replace(spacing=pixels)
        layers = of_layer(shown.fields.layers, layer)
        if out is not None:
            _draw(shown, layers, objects, out)
    for name, reason in shown.fields.unfollowed.items():
        warnings.warn(f"`{name}` could not be followed: {reason}", stacklevel=1)
    object_size = objects.max_size if objects else min(shown.input_size)
    if as_json:
        typer.echo(json.dumps(_as_data(shown, layers, object_size), indent=2))
    elif as_csv:
        rows = [_row(one, object_size, shown.spacing) for one in layers]
        writer = csv.DictWriter(sys.stdout, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        _print(shown, layers if every or layer else changes(layers), object_size)


class _Shown(NamedTuple):
    """What the command shows."""

    name: str
    input_size: tuple[int, ...]
    fields: NetworkFields
    spacing: Spacing | None = None


def _load(model: str, input_size: str | None, in_chans: int | None) -> _Shown:
    from rfsearch.diagnosis.network_fields import NetworkFields, network_fields

    if Path(model).suffix != ".toml":
        resolved = load_model(model, input_size, in_chans=in_chans)
        return _Shown(resolved.name, resolved.input_size, network_fields(resolved))
    from rfsearch.diagnosis.typed_layers import read_layers
    from rfsearch.models.resolve import DEFAULT_SIDES

    layers = read_layers(Path(model))
    outputs = (replace(layers[-1], name="output", kind="output"),)
    size = parse_image_size(input_size or str(DEFAULT_SIDES[2]))
    return _Shown(model, size, NetworkFields(layers, outputs))


def _draw(
    shown: _Shown, layers: Sequence[LayerField], objects: ScaleTarget | None, out: Path
) -> None:
    from rfsearch.analysis.field_figures import ObjectSizes, layer_growth

    band = ObjectSizes(objects.min_size, objects.max_size) if objects else None
    figure = layer_growth(layers, shown.input_size, band)
    figure.suptitle(shown.name)
    figure.savefig(out, dpi=150)


def changes(layers: Sequence[LayerField]) -> tuple[LayerField, ...]:
    """The layers that change what units see: one of each run of layers whose units see the same.

    Where the first of a run looks at single positions, it is the smallest block around it.
    """
    runs: list[list[LayerField]] = []
    for one in layers:
        same = runs and (runs[-1][0].reach, runs[-1][0].is_global) == (one.reach, one.is_global)
        if same:
            runs[-1].append(one)
        else:
            runs.append([one])
    return tuple(_cause(run) for run in runs)


def _cause(run: list[LayerField]) -> LayerField:
    first = run[0]
    if not any(part in first.kind.lower() for part in _POINTWISE):
        return first
    around = (one for one in run[1:] if first.name.startswith(f"{one.name}."))
    return next(around, first)


def _row(one: LayerField, object_size: float, spacing: Spacing | None) -> dict[str, Any]:
    reach = one.reach
    row: dict[str, Any] = {"name": one.name, "type": one.kind}
    row |= {f"rf_{axis}": size for axis, size in reach.size.named.items()}
    if spacing is not None:
        sizes = spacing.of(reach.size).named
        row |= {f"rf_{axis}_{spacing.unit}": size for axis, size in sizes.items()}
    row["erf_expected"] = one.expected_size
    row |= {f"smallest_{axis}": size for axis, size in reach.smallest.named.items()}
    row |= {f"stride_{axis}": _exact(jump) for axis, jump in reach.stride.named.items()}
    return row | {"global": one.is_global, "sees": _seen(one, object_size)}


def _seen(one: LayerField, object_size: float) -> str:
    from rfsearch.target.bands import band

    return "image" if one.is_global else band(one.reach.size.low, object_size)


def _exact(stride: float | Fraction) -> float | str:
    """A stride for JSON and CSV: a fraction as `"1/2"`."""
    return str(stride) if isinstance(stride, Fraction) else stride


def _as_data(shown: _Shown, layers: Sequence[LayerField], object_size: float) -> dict[str, Any]:
    from rfsearch.target.bands import BANDS, BOUNDS

    starts = [0.0, *(bound * object_size for bound in BOUNDS)]
    return {
        "model": shown.name,
        "input_size": list(shown.input_size),
        "object_size": object_size,
        "bands": dict(zip(BANDS, starts, strict=True)),
        "outputs": [_row(one, object_size, shown.spacing) for one in shown.fields.outputs],
        "unfollowed": dict(shown.fields.unfollowed),
        "global_layers": list(shown.fields.global_layers),
        "layers": [_row(one, object_size, shown.spacing) for one in layers],
    }


def _print(shown: _Shown, layers: Sequence[LayerField], object_size: float) -> None:
    from rfsearch.target.bands import BOUNDS

    textures, parts, objects = (f"{bound * object_size:.0f}" for bound in BOUNDS)
    note = (
        "RF, ERF (expected of a random initialisation), min RF (over the path that sees least) "
        "and stride in px. A layer can see textures of "
        f"an object of {object_size:g} px from an RF of {textures} px on, parts from {parts} px, "
        f"all of it from {objects} px: a rule of thumb after Zeiler and Fergus (2014, figure 2)."
    )
    typer.echo(f"{shown.name}, input {by_x(shown.input_size)} px\n")
    print_table(
        _table(layers, object_size, shown.spacing, outputs=False),
        _table(shown.fields.outputs, object_size, shown.spacing, outputs=True),
    )
    typer.echo(textwrap.fill(note, _TEXT_WIDTH))


def _table(
    layers: Sequence[LayerField], object_size: float, spacing: Spacing | None, outputs: bool
) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("output" if outputs else "layer", overflow="fold", min_width=22)
    if not outputs:
        table.add_column("type", overflow="fold")
    units = [] if spacing is None else [f"RF, {spacing.unit}"]
    for name in ("RF", *units, "ERF", "min RF", "stride"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("sees", no_wrap=True)
    for one in layers:
        size = one.expected_size
        expected = "" if size is None else size
        sizes = [] if spacing is None else [spacing.words(one.reach.size)]
        numbers = map(
            str, (one.reach.size, *sizes, expected, one.reach.smallest, one.reach.stride)
        )
        sees = _seen(one, object_size)
        kind = () if outputs else (one.kind,)
        table.add_row(one.name, *kind, *numbers, sees)
    return table
