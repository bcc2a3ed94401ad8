"""What the commands that search have in common: their options, and where the study is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from rfsearch.cli._output import say_what_is_waited_for

if TYPE_CHECKING:
    import signal

    from rfsearch.search.experiment import Experiment
    from rfsearch.search.study import StudyAddress

#: Environment variable for `--storage`: what is on a command line can be read by others.
STORAGE_VARIABLE = "RFSEARCH_STORAGE"

ExperimentArgument = Annotated[str, typer.Argument(help="An experiment's folder or TOML file.")]
StorageOption = Annotated[
    str | None,
    typer.Option(
        envvar=STORAGE_VARIABLE,
        show_envvar=True,
        help="Database of the study, as postgresql://USER@HOST/DATABASE, mysql://..., "
        "sqlite:///FILE or grpc://HOST:PORT; by default the experiment's own.",
    ),
]
StudyOption = Annotated[
    str | None,
    typer.Option("--study", help="Name of the study in --storage; by default the folder's."),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, ...: by default a free CUDA device, if there is one."),
]
TrialsPerGpuOption = Annotated[
    int | None,
    typer.Option(min=1, help="Workers that share each GPU, for networks too small to fill one."),
]


def not_nan(value: float | None) -> float | None:
    """What typer's own bounds let through."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is no number.")
    return value


HeartbeatOption = Annotated[
    float,
    typer.Option(
        min=0.1,
        max=86_400,
        callback=not_nan,
        help="Seconds between signs of life; lost after five that others do not see.",
    ),
]
GraceOption = Annotated[
    float,
    typer.Option(
        min=0.1,
        max=86_400,
        callback=not_nan,
        help="Seconds to hand back a trial after SIGTERM or a lost connection.",
    ),
]


def until_trials_are_handed_back(number: signal.Signals) -> None:
    """Say what a search waits for that was told to stop."""
    say_what_is_waited_for(number, "until running trials can be handed back")


def study_address(experiment: Experiment, storage: str | None, name: str | None) -> StudyAddress:
    """The study that the options mean.

    Raises:
        ValueError: If a name is given without a database, or cannot be stored.
    """
    from rfsearch.search.study import StudyAddress

    if storage is None:
        if name is not None:
            raise ValueError("--study needs --storage; without it, the study is the experiment's.")
        return StudyAddress.of(experiment.folder)
    name = experiment.folder.name if name is None else name
    if not 0 < len(name) <= 512 or not name.isprintable():
        raise ValueError(f"--study must have 1 to 512 printable characters, but got {name!r}.")
    return StudyAddress(storage, name)
