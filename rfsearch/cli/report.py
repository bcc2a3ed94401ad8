"""`rfsearch report`: a study as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rfsearch.basics.atomic import atomic_file
from rfsearch.cli._errors import as_bugs, user_mistakes
from rfsearch.cli._studies import FolderArgument, StorageOption, StudyOption, load_summary


def report(
    folder: FolderArgument = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("report.html"),
    storage: StorageOption = None,
    study: StudyOption = None,
) -> None:
    """Write what was asked, what was found and what to do next, as one HTML file."""
    with user_mistakes():
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if out.suffix not in (".html", ".htm"):
            raise ValueError(f"`--out` must end in .html, but got {out}.")
        with load_summary(folder, storage, study) as summary, as_bugs():
            from rfsearch.report.html import render_report

            html = render_report(summary)
        with atomic_file(out) as new:
            new.write_text(html, encoding="utf-8")
    typer.echo(f"report  {out}")
