"""Finding the study that a command is about: an experiment's folder, or a place in a database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import optuna

    from rfsearch.story import Story

FolderArgument = Annotated[
    Path | None, typer.Argument(help="An experiment's folder or TOML file, after `rfsearch run`.")
]
StorageOption = Annotated[
    str | None, typer.Option(help="Address of an Optuna database instead, as sqlite:///study.db.")
]
StudyOption = Annotated[str | None, typer.Option(help="Name of the study in that database.")]


def load_story(folder: Path | None, storage: str | None, name: str | None) -> Story:
    """The story of the study that is meant.

    Where both a folder and a database are given, the study is in the database and the folder says
    what its experiment is.

    Raises:
        ValueError: If neither is given, or there is no such study.
    """
    from rfsearch.story import Story

    if folder is None:
        return Story.of_study(find_study(None, storage, name))
    from rfsearch.experiment import Experiment
    from rfsearch.experiment_story import experiment_story

    study = find_study(folder, storage, name)
    return experiment_story(study, Experiment.load(folder))


def find_study(folder: Path | None, storage: str | None, name: str | None) -> optuna.Study:
    """Open a study to read it.

    Raises:
        ValueError: If there is no such study.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    if folder is None and storage is None:
        raise ValueError("An experiment's folder or `--storage` must be given, but got neither.")
    if storage is None and name is not None:
        raise ValueError("`--study` must go with `--storage`, but got no database.")
    if storage is None:
        assert folder is not None
        home = (folder.parent if folder.suffix == ".toml" else folder).resolve()
        storage, name = f"sqlite:///{home / 'study.db'}", home.name
    _check_file(storage)
    try:
        names = optuna.get_all_study_names(storage)
        if name is None and len(names) == 1:
            name = names[0]
        if name not in names:
            known = ", ".join(names) or "none"
            raise ValueError(
                f"`--study` must be one of {known}, but got {repr(name) if name else 'nothing'}."
            )
        return optuna.load_study(study_name=name, storage=storage)
    except (SQLAlchemyError, RuntimeError, ImportError) as error:
        # The address may hold a password, so it is not repeated.
        reason = str(error).splitlines()[0]
        raise ValueError(f"The database cannot be read ({reason}).") from None


def _check_file(storage: str) -> None:
    """SQLite would make a file that does not exist."""
    path = storage.removeprefix("sqlite:///")
    if path != storage and not Path(path).is_file():
        raise ValueError(f"{path}: there is no study yet; `rfsearch run` makes one.")
