"""`rfsearch init`: an experiment from annotated images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rfsearch.cli._errors import user_mistakes
from rfsearch.cli._studies import DeviceOption


def init(
    data: Annotated[
        Path,
        typer.Argument(
            help="A folder of classes, of images with boxes or with masks; or a file of boxes."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write; new or empty.")],
    budget: Annotated[
        str, typer.Option(help="Time for the search, as 90s, 30min, 8h or 2d.")
    ] = "30min",
    device: DeviceOption = None,
    task: Annotated[
        str | None,
        typer.Option(help="classification, detection or segmentation, where it could be several."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images, where it is not with the boxes.")
    ] = None,
    semantic: Annotated[
        bool | None,
        typer.Option("--semantic/--instances", help="Values of masks are classes, or objects."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be written.")
    ] = False,
) -> None:
    """Look at annotated images, and write an experiment for them with the reasons."""
    with user_mistakes():
        from rfsearch.measure.device import check_device
        from rfsearch.planning.plan import plan

        check_device(device)
        made = plan(
            data,
            out,
            budget=budget,
            device=device,
            kind=task,
            images=images,
            semantic=semantic,
            dry_run=dry_run,
        )
    if dry_run:
        for name, text in made.files.items():
            typer.echo(f"── {out / name}\n\n{text}")
        return
    for name in made.files:
        typer.echo(f"written  {out / name}")
    if made.warning:
        typer.echo(f"warning  {made.warning}", err=True)
    typer.echo(f"next     rfsearch run {out}")
