"""`rfsearch tiling`: how large images are cut, so that tiles give what the image gives."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rfsearch.basics.axes import by_x
from rfsearch.cli._errors import user_mistakes
from rfsearch.cli._models import CHANNELS_HELP, MODEL_HELP, load_model, parse_memory, parse_size
from rfsearch.cli._output import print_table

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from rfsearch.tiling.plan import TilePlans

#: Side in px at which a model is made; it is traced at others.
_SIDE = 512


def tiling(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    image_size: Annotated[
        str, typer.Option(help="Sides of the images in px, as 4096 or HEIGHTxWIDTH.")
    ],
    memory: Annotated[str, typer.Option(help="What a pass may need, as 4GB or 500MB.")] = "4GB",
    in_chans: Annotated[int | None, typer.Option(help=CHANNELS_HELP)] = None,
    features: Annotated[
        bool, typer.Option("--features", help="Tile the map before a classifier's pooling.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Plan tiles of large images: the halo that units see, tiles that fit, what it costs."""
    with user_mistakes():
        memory_mb, sides = parse_memory(memory), parse_size(image_size)
        resolved = load_model(model, None, in_chans=in_chans, default_size=_SIDE, num_classes=0)
        if features:
            resolved = dataclasses.replace(resolved, run=_features)
        from rfsearch.tiling.plan import tiling_plans

        plans = tiling_plans(resolved, sides, memory_mb, in_chans=in_chans)
    if as_json:
        typer.echo(json.dumps({"model": model, **dataclasses.asdict(plans)}, indent=2))
        return
    typer.echo(
        f"{model}, images of {by_x(plans.image_size)} px as a whole: {plans.memory_mb:,.0f} MiB\n"
        f"sides of images, tiles and halos are multiples of {by_x(plans.multiples)} px\n"
    )
    print_table(_table(plans))
    if plans.only_exact:
        typer.echo(f"\nThe expected ERF is not known: {plans.only_exact}")


def _features(module: Any, images: Tensor) -> Any:
    if not hasattr(module, "forward_features"):
        raise ValueError(
            f"--features needs `forward_features`, which {type(module).__name__} lacks."
        )
    return module.forward_features(images)


def _table(plans: TilePlans) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    headings = ("units see", "halo (px)", "tile (px)", "tiles", "computed", "MiB")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for one in plans.plans:
        share = "all" if one.share == 1 else f"{one.share:.1%}"
        sizes = (by_x(one.halo), by_x(one.tile_size), f"{one.tiles:,}")
        table.add_row(share, *sizes, f"{one.computed:.2f} x", f"{one.memory_mb:,.0f}")
    return table
