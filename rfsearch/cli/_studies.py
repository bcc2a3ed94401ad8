"""The studies that commands are about: their options, where they are, and finding them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rfsearch.cli._output import say_what_is_waited_for

if TYPE_CHECKING:
    import signal

    import optuna

    from rfsearch.report.summary import StudySummary
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


FolderArgument = Annotated[
    Path | None, typer.Argument(help="An experiment's folder or TOML file, after `rfsearch run`.")
]


@contextmanager
def load_summary(
    folder: Path | None, storage: str | None, name: str | None, say: str = ""
) -> Iterator[StudySummary]:
    """The summary of the study that is meant; its database is open until the block ends.

    Where both a folder and a database are given, the study is in the database and the folder says
    what its experiment is. `say` goes to standard error once the study is found.

    Raises:
        ValueError: If neither is given, or there is no such study.
    """
    from rfsearch.report.summary import StudySummary

    with find_study(folder, storage, name) as study:
        if say:  # What comes may take long.
            typer.echo(say, err=True)
        if folder is None:
            yield StudySummary.of_study(study)
        else:
            from rfsearch.report.experiment_summary import experiment_summary
            from rfsearch.search.experiment import Experiment

            yield experiment_summary(study, Experiment.load(folder))


@contextmanager
def find_study(
    folder: Path | None, storage: str | None, name: str | None
) -> Iterator[optuna.Study]:
    """Open a study to read it, until the block ends.

    Trials that cannot be read are named in a warning and left out.

    Args:
        folder: An experiment's; it names the study, and its own database is the default.
        storage: Address of another database.
        name: The study's; by default the folder's, or that of the only one in the database.

    Raises:
        ValueError: If there is no such study, or its database cannot be used.
    """
    import optuna

    from rfsearch.analysis.checked_trials import readable_study
    from rfsearch.basics.files import real_path
    from rfsearch.search.study import storage_url
    from rfsearch.storage.storage import open_storage

    if folder is not None:
        if storage is None and name is not None:
            raise ValueError("`--study` must go with `--storage`, but got no database.")
        home = real_path(folder.parent if folder.suffix == ".toml" else folder)
        storage, name = storage or storage_url(home), name or home.name
    elif storage is None:
        raise ValueError("An experiment's folder or `--storage` must be given, but got neither.")
    _check_file(storage)
    with open_storage(storage, read_only=True) as opened:
        names = optuna.get_all_study_names(opened)
        if name is None and len(names) == 1:
            name = names[0]
        if name not in names:
            known = ", ".join(names) or "none"
            raise ValueError(
                f"`--study` must be one of {known}, but got {repr(name) if name else 'nothing'}."
            )
        yield readable_study(optuna.load_study(study_name=name, storage=opened))


def _check_file(storage: str) -> None:
    """SQLite would make a file that does not exist."""
    from rfsearch.storage.database_url import parse_url

    url = parse_url(storage)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise ValueError(f"{url.database}: there is no study yet; `rfsearch run` makes one.")
