"""`rfsearch latency`: how fast a network runs here, and how much memory it needs."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

from rfsearch.basics.axes import by_x
from rfsearch.cli._errors import user_mistakes
from rfsearch.cli._models import (
    CHANNELS_HELP,
    DEVICE_HELP,
    MEASURED_SIZE_HELP,
    MODEL_HELP,
    chosen_device,
    load_model,
)
from rfsearch.cli._output import print_table

if TYPE_CHECKING:
    from rich.table import Table

    from rfsearch.measure.latency import Latency


def latency(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    input_size: Annotated[str | None, typer.Option(help=MEASURED_SIZE_HELP)] = None,
    in_chans: Annotated[int | None, typer.Option(help=CHANNELS_HELP)] = None,
    batch_size: Annotated[
        list[int] | None, typer.Option(help="May be given several times. [default: 1, 32]")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Time each batch size for so long.")] = 0.5,
    device: Annotated[str | None, typer.Option(help=DEVICE_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure the latency and the peak memory of a network's forward pass."""
    with user_mistakes():
        chosen = chosen_device(device)
        resolved = load_model(
            model, input_size, in_chans=in_chans, default_size=224, num_classes=1000
        )
        from rfsearch.measure.latency import measure_latency

        measured = measure_latency(
            resolved,
            resolved.input_size,
            batch_size or (1, 32),
            device=chosen,
            min_seconds=seconds,
        )
    if as_json:
        typer.echo(json.dumps({"model": model, **_as_data(measured)}, indent=2))
        return
    typer.echo(
        f"{model}, input {by_x(resolved.input_size)} px, {measured.dtype} on {measured.device}\n"
    )
    print_table(_table(measured))


def _as_data(measured: Latency) -> dict[str, object]:
    data = dataclasses.asdict(measured)
    for row, one in zip(data["batches"], measured.batches, strict=True):
        row["images_per_second"] = one.images_per_second
    return data


def _table(measured: Latency) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("batch", "ms, median", "ms, IQR", "images/s", "peak MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in measured.batches:
        numbers = (one.median_ms, one.iqr_ms, one.images_per_second, one.peak_memory_mb)
        formats = ("{:.2f}", "{:.2f}", "{:,.0f}", "{:.1f}")
        cells = (form.format(n) for form, n in zip(formats, numbers, strict=True))
        table.add_row(str(one.batch_size), *cells)
    return table
