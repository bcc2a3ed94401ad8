"""The command line: one module for each command."""

from __future__ import annotations

import io
import os
import sys
import warnings

import typer

from rfsearch.cli._errors import show_warning
from rfsearch.cli.dashboard import dashboard
from rfsearch.cli.doctor import doctor
from rfsearch.cli.erf import erf
from rfsearch.cli.export import export
from rfsearch.cli.latency import latency
from rfsearch.cli.report import report
from rfsearch.cli.rf import rf
from rfsearch.cli.run import run
from rfsearch.cli.space import space
from rfsearch.cli.target import target
from rfsearch.cli.train import train
from rfsearch.cli.worker import worker

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def main() -> None:
    """Entry point of the `rfsearch` command."""
    # Threads that spin long while they wait slow each other down tenfold beside other work.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    warnings.showwarning = show_warning
    # Names of files may be of bytes that no encoding has a character for.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    app()


@app.callback()
def _about() -> None:
    """Search network architectures whose receptive field fits the objects they must see."""


for command in (
    run, worker, target, space, rf, erf, doctor, latency, report, dashboard, export, train,
):  # fmt: skip
    app.command()(command)

if __name__ == "__main__":
    main()
