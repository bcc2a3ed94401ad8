"""`rfsearch fit`: what to change of a trained network, without its weights, so that it fits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rfsearch.basics.axes import by_x
from rfsearch.cli._errors import refuse, user_mistakes
from rfsearch.cli._models import (
    CHANNELS_HELP,
    CHECKPOINT_HELP,
    MODEL_HELP,
    SIZE_HELP,
    TARGET_HELP,
    load_model,
    parse_target,
)
from rfsearch.cli._output import print_table

if TYPE_CHECKING:
    from rich.table import Table

    from rfsearch.models.resolved import ResolvedModel
    from rfsearch.retrofit.fit import Fitting, Judged
    from rfsearch.retrofit.space import RetrofitSpace
    from rfsearch.target.target import ScaleTarget

#: Changes that are shown.
_SHOWN = 5


def fit(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    target: Annotated[str, typer.Option(help=TARGET_HELP)],
    checkpoint: Annotated[Path | None, typer.Option(help=CHECKPOINT_HELP)] = None,
    max_flops_ratio: Annotated[
        float | None, typer.Option(help="Most FLOPs, in those of the network as it is.")
    ] = None,
    levels: Annotated[
        str | None,
        typer.Option(help="Outputs or layers whose maps see the objects, as layer2,layer3."),
    ] = None,
    input_size: Annotated[str | None, typer.Option(help=SIZE_HELP)] = None,
    in_chans: Annotated[int | None, typer.Option(help=CHANNELS_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All that was found as JSON.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the first changes, the weights and a picture to this folder."),
    ] = None,
) -> None:
    """Find changes of a trained network that fit, the fewest first; they leave its weights."""
    with user_mistakes():
        objects = parse_target(target)
        if max_flops_ratio is not None and not 0 < max_flops_ratio < float("inf"):
            raise ValueError(f"--max-flops-ratio must be positive, but got {max_flops_ratio}.")
        if out is not None and out.exists() and not out.is_dir():
            raise ValueError(f"--out must be a folder, but {out} is none.")
        resolved = load_model(model, input_size, in_chans=in_chans, checkpoint=checkpoint)
        if levels is not None:
            from rfsearch.retrofit.levels import at_levels

            resolved = at_levels(resolved, levels.split(","))
        space, fitting = _fit(resolved, objects, max_flops_ratio)
        if out is not None and fitting.found:
            _write(out, space, fitting.found[0], objects)
    if remark := objects.beyond(resolved.input_size):
        typer.echo(f"warning: --target: {remark}", err=True)
    if as_json:
        typer.echo(json.dumps(_as_data(space, fitting, objects), indent=2))
    else:
        _print(space, fitting, objects)
    if not fitting.found and not fitting.given.fits:
        refuse(_out_of_reach(fitting))


def _fit(
    model: ResolvedModel, target: ScaleTarget, max_flops_ratio: float | None
) -> tuple[RetrofitSpace, Fitting]:
    from rfsearch.retrofit.fit import constraint_for, fit
    from rfsearch.retrofit.space import RetrofitSpace

    # Of random weights, where many blocks begin with a branch of zeros, training leaves nothing.
    is_random = model.weights.startswith("random")
    space = RetrofitSpace(model, initialisation="fan_in" if is_random else "module")
    return space, fit(space, constraint_for(space, target, max_flops_ratio))


# -- what is shown -------------------------------------------------------------------------


def _as_data(space: RetrofitSpace, fitting: Fitting, target: ScaleTarget) -> dict[str, Any]:
    model = space.model
    return {
        "model": model.name,
        "input_size": list(model.input_size),
        "weights": model.weights,
        "target": target.in_words,
        "given": _one(space, fitting.given, fitting),
        "fits": [_one(space, one, fitting) for one in fitting.found[:_SHOWN]],
        "nearest": _one(space, fitting.nearest, fitting),
        "fixed": space.fixed,
        "traced": fitting.num_traced,
    }


def _one(space: RetrofitSpace, judged: Judged, fitting: Fitting) -> dict[str, Any]:
    levels = [
        {
            "level": level,
            "axis": axis,
            "rf": field.size,
            "erf_expected": erf,
            "stride": float(field.stride),
        }
        for level, axis, field, erf in judged.levels()
    ]
    return {
        "decisions": dict(judged.steps),
        "changes": judged.changes,
        "levels": levels,
        "flops": judged.flops,
        "flops_ratio": judged.flops / fitting.given.flops,
        "memory_ratio": judged.memory / fitting.given.memory,
        "fits": judged.fits,
        "misses": [str(verdict) for verdict in judged.verdicts if not verdict.passes],
        "code": space.code(judged.changes),
    }


def _print(space: RetrofitSpace, fitting: Fitting, target: ScaleTarget) -> None:
    model = space.model
    typer.echo(f"model     {model.name}, input {by_x(model.input_size)} px, {model.weights}")
    typer.echo(f"target    {target.in_words}")
    for verdict in fitting.given.verdicts:
        typer.echo(f"{'  now     ' if verdict.passes else '! now     '}{verdict}")
    for name, why in space.fixed.items():
        typer.echo(f"  fixed   {name}: {why}")
    typer.echo()
    shown = {"now": fitting.given}
    if fitting.found:
        shown |= {str(number): one for number, one in enumerate(fitting.found[:_SHOWN], 1)}
    elif not fitting.given.fits:
        shown["nearest"] = fitting.nearest
    print_table(_table(fitting, shown))
    if fitting.given.fits:
        typer.echo("It fits as it is.")
    elif fitting.found:
        typer.echo("The first of these, in your own code, without rfsearch:\n")
        for line in space.code(fitting.found[0].changes):
            typer.echo(f"    {line}")


def _table(fitting: Fitting, shown: dict[str, Judged]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("changes", overflow="fold")
    table.add_column("level", overflow="fold")
    for name in ("RF", "ERF", "stride", "FLOPs", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, judged in shown.items():
        for row in _rows(judged, fitting.given):
            table.add_row(number, *row)
            number = ""  # A network is named once.
    return table


def _rows(judged: Judged, given: Judged) -> Iterator[list[str]]:
    ratios = (judged.flops / given.flops, judged.memory / given.memory)
    first = [judged.in_words, *(f"{ratio:.2f}x" for ratio in ratios)]
    for level, axis, field, erf in judged.levels():
        words, *costs = first
        place = f"{level} {axis}" if axis else level
        yield [words, place, str(field.size), str(erf), str(field.stride), *costs]
        first = ["", "", ""]


def _out_of_reach(fitting: Fitting) -> str:
    nearest = fitting.nearest
    missed = " and ".join(str(verdict) for verdict in nearest.verdicts if not verdict.passes)
    alone = " and ".join(map(str, fitting.out_of_reach))
    why = f"at best, {alone}" if alone else "each range is met by some, and all by none"
    return (
        f"No change that keeps the weights fits, of {fitting.num_traced} networks that were "
        f"traced: {why}. The nearest is {nearest.in_words}: {missed}."
    )


# -- what is written -----------------------------------------------------------------------


def _write(folder: Path, space: RetrofitSpace, judged: Judged, target: ScaleTarget) -> None:
    from rfsearch.analysis.field_figures import ObjectSizes, layer_growth
    from rfsearch.basics.atomic import atomic_file
    from rfsearch.diagnosis.network_fields import network_fields
    from rfsearch.models.weights import save_weights
    from rfsearch.retrofit.changes import retrofit

    model = space.model
    changed = retrofit(model.module, judged.changes, model.input_size)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / "changes.json") as new:
        new.write_text(json.dumps(judged.changes, indent=2) + "\n", encoding="utf-8")
    with atomic_file(folder / "weights.safetensors") as new:
        save_weights(changed.state_dict(), new)
    before = network_fields(model).layers
    left_out = tuple(name for name, values in judged.changes.items() if values.get("skip"))
    after = tuple(
        layer
        for layer in network_fields(model.over(changed)).layers
        if not any(layer.name == name or layer.name.startswith(f"{name}.") for name in left_out)
    )
    band = ObjectSizes(target.min_size, target.max_size)
    figure = layer_growth(after, model.input_size, band, before=before)
    figure.suptitle(f"{model.name}: {judged.in_words}")
    with atomic_file(folder / "growth.png") as new:
        figure.savefig(new, dpi=150, format="png")
