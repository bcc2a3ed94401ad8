"""All commands: one module for each."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from contextlib import nullcontext
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

from rfsearch.cli._errors import refusals, refuse_no_values, show_warning
from rfsearch.cli._output import guarded_output
from rfsearch.cli.dashboard import dashboard, report
from rfsearch.cli.doctor import doctor
from rfsearch.cli.erf import erf
from rfsearch.cli.export import export
from rfsearch.cli.fit import fit
from rfsearch.cli.init import init
from rfsearch.cli.latency import latency
from rfsearch.cli.rf import rf
from rfsearch.cli.run import run
from rfsearch.cli.space import space
from rfsearch.cli.target import target
from rfsearch.cli.tiling import tiling
from rfsearch.cli.train import train
from rfsearch.cli.worker import worker


class _Commands(TyperGroup):
    """All commands; what is wrong with how any of them is called is one line."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Read the options that stand before the command."""
        # It is no mistake to ask for help by giving nothing.
        with refusals() if args else nullcontext():
            refuse_no_values(args)
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        with refusals():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Square brackets are what they are.
)


def run_app(on_interrupt: Any) -> None:
    """Run the command that the command line names.

    Args:
        on_interrupt: How SIGINT was handled when the program started.
    """
    # Threads that spin long while they wait slow each other down tenfold beside other work.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    warnings.showwarning = show_warning
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    if on_interrupt is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        with guarded_output():
            app()
    except (Exception, KeyboardInterrupt):
        # Ctrl-C before a command runs, of which a module that is being loaded may make an error.
        if not interrupted:
            raise
        sys.exit(128 + signal.SIGINT)
    finally:
        if interrupted:  # Python clears up; another Ctrl-C is not to show how.
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@app.callback()
def _about() -> None:
    """Search network architectures whose receptive field fits the objects they must see."""


for command in (
    init, run, worker, target, space, rf, erf, doctor, fit, latency, tiling, report, dashboard,
    export, train,
):  # fmt: skip
    app.command()(command)
