"""`rfsearch rf`: what each layer of a network sees."""

from __future__ import annotations

import csv
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from rfsearch.cli._errors import user_mistakes
from rfsearch.cli._models import (
    DEFAULT_SIZE,
    MODEL_HELP,
    SIZE_HELP,
    TARGET_HELP,
    Subject,
    check_png,
    load_subject,
    of_layer,
    parse_size,
    parse_target,
)

if TYPE_CHECKING:
    from rich.table import Table

    from rfsearch.diagnosis.layer_field import LayerField
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
        objects = parse_target(target) if target else None
        check_png(out, "--out")
        subject = _load(model, input_size)
        layers = of_layer(subject.layers(), layer)
        if out is not None:
            _draw(subject, layers, objects, out)
    object_size = objects.max_size if objects else min(subject.input_size)
    if as_json:
        typer.echo(json.dumps(_as_data(subject, layers, object_size), indent=2))
    elif as_csv:
        rows = [_row(one, object_size) for one in layers]
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        _print(subject, layers if every or layer else changes(layers), object_size)


def _load(model: str, input_size: str | None) -> Subject:
    if Path(model).suffix != ".toml":
        return load_subject(model, input_size)
    from rfsearch.diagnosis.typed_layers import read_layers

    size = parse_size(input_size or str(DEFAULT_SIZE))
    return Subject(model, size, typed=read_layers(Path(model)))


def _draw(
    subject: Subject, layers: Sequence[LayerField], objects: ScaleTarget | None, out: Path
) -> None:
    from rfsearch.analysis.field_figures import ObjectSizes, layer_growth

    band = ObjectSizes(objects.min_size, objects.max_size) if objects else None
    figure = layer_growth(layers, subject.input_size, band)
    figure.suptitle(subject.name)
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


def _row(one: LayerField, object_size: float) -> dict[str, Any]:
    from rfsearch.target.bands import band

    reach = one.reach
    return {
        "name": one.name,
        "type": one.kind,
        "rf_height": reach.size.height,
        "rf_width": reach.size.width,
        "smallest_height": reach.smallest.height,
        "smallest_width": reach.smallest.width,
        "stride_height": reach.stride.height,
        "stride_width": reach.stride.width,
        "global": one.is_global,
        "sees": band(reach.size.low, object_size),
    }


def _as_data(subject: Subject, layers: Sequence[LayerField], object_size: float) -> dict[str, Any]:
    from rfsearch.target.bands import BANDS, BOUNDS

    starts = [0.0, *(bound * object_size for bound in BOUNDS)]
    return {
        "model": subject.name,
        "input_size": list(subject.input_size),
        "object_size": object_size,
        "bands": dict(zip(BANDS, starts, strict=True)),
        "outputs": [_row(one, object_size) for one in subject.outputs()],
        "global_layers": list(subject.traced.global_layers) if subject.traced else [],
        "layers": [_row(one, object_size) for one in layers],
    }


def _print(subject: Subject, layers: Sequence[LayerField], object_size: float) -> None:
    from rfsearch.target.bands import BOUNDS

    height, width = subject.input_size
    textures, parts, objects = (f"{bound * object_size:.0f}" for bound in BOUNDS)
    note = (
        "RF, min RF (over the path that sees least) and stride in px. A layer can see textures of "
        f"an object of {object_size:g} px from an RF of {textures} px on, parts from {parts} px, "
        f"all of it from {objects} px: a rule of thumb after Zeiler and Fergus (2014, figure 2)."
    )
    typer.echo(f"{subject.name}, input {height}x{width} px\n")
    console = Console()
    console.print(_table(layers, object_size, outputs=False), "")
    console.print(_table(subject.outputs(), object_size, outputs=True), "")
    typer.echo(textwrap.fill(note, _TEXT_WIDTH))


def _table(layers: Sequence[LayerField], object_size: float, outputs: bool) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("output" if outputs else "layer", overflow="fold", min_width=22)
    if not outputs:
        table.add_column("type", overflow="fold")
    for name in ("RF", "min RF", "stride"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("global", no_wrap=True)
    table.add_column("sees", no_wrap=True)
    for one in layers:
        numbers = map(str, (one.reach.size, one.reach.smallest, one.reach.stride))
        sees = str(_row(one, object_size)["sees"])
        kind = () if outputs else (one.kind,)
        table.add_row(one.name, *kind, *numbers, "yes" if one.is_global else "", sees)
    return table
