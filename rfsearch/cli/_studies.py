"""Finding the study that a command is about: an experiment's folder, or a place in a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import optuna

    from rfsearch.report.summary import StudySummary

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
