"""The tables of candidates that were trained, all of a space: `../trained_tables`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

import rfsearch as rfs
from rfsearch.search.study import storage_url
from rfsearch.storage.retrying_storage import RetryingStorage
from rfsearch.storage.storage import open_storage

EXPERIMENTS = Path(__file__).parent.parent
TABLES = EXPERIMENTS / "trained_tables"
#: Spaces of digits among fragments, `train.py`'s, and their folders.
SPACES = {
    "equal": "erf_and_accuracy",
    "centred": "search_cost",
    "too_large": "search_cost/too_large",
    "dilations": "dilation_search",
}
#: What a table keeps of a trial beside its parameters and its score.
KEPT = (
    *("params_m", "flops_g", "trf_size", "output_stride", "skipped"),
    *(
        f"erf_{s}{when}"
        for s in ("", "sigma_", "half_")
        for when in ("expected", "init", "trained")
    ),
)


def folder_of(name: str) -> Path:
    """Where the space of a table is, and the studies of its trainings."""
    return EXPERIMENTS / SPACES[name]


def storage_of(folder: Path) -> RetryingStorage:
    """The database of a folder's studies; whoever opens it closes it."""
    return open_storage(storage_url(folder.resolve()))


def trials_of(folder: Path) -> dict[str, list[FrozenTrial]]:
    """The trainings of a folder, by the name of their study."""
    with storage_of(folder) as storage:
        studies = (
            optuna.load_study(study_name=name, storage=storage)
            for name in optuna.get_all_study_names(storage)
        )
        return {
            study.study_name: study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            for study in studies
        }


def row_of(trial: FrozenTrial) -> dict[str, object]:
    """What a table keeps of a training."""
    described = json.loads(trial.user_attrs["architecture"])
    gridding = rfs.Architecture.from_dict(described).coverage().gridding
    kept = {name: trial.user_attrs[name] for name in KEPT}
    return trial.params | {"score": trial.values[0]} | kept | {"gridding": gridding}


def of_seeds(folder: Path, seeds: list[int], kind: str = "") -> pd.DataFrame:
    """All trainings of a folder that has a study for each seed, and kind of data; sizes in px."""
    trials = trials_of(folder)
    return pd.DataFrame(
        {"seed": seed} | row_of(trial) for seed in seeds for trial in trials[f"{kind}seed {seed}"]
    )


def write(name: str, frame: pd.DataFrame) -> None:
    """Write a table, the same bytes for the same rows.

    Of what is there, trainings of other seeds and sizes stay.
    """
    if (TABLES / f"{name}.csv.gz").exists():
        there = pd.read_csv(TABLES / f"{name}.csv.gz")
        keys = [key for key in ("side", "seed") if key in frame]
        others = there.merge(frame[keys].drop_duplicates(), "left", keys, indicator=True)
        others = others[others.pop("_merge") == "left_only"]
        if len(others):
            frame = pd.concat([others, frame]).sort_values(keys, kind="stable")
    compression = {"method": "gzip", "mtime": 0}
    frame.round(6).to_csv(TABLES / f"{name}.csv.gz", index=False, compression=compression)


def tables() -> tuple[str, ...]:
    """The tables of `SPACES` that there are."""
    return tuple(name for name in SPACES if (TABLES / f"{name}.csv.gz").exists())


def trained(name: str) -> pd.DataFrame:
    """A table of `SPACES`, with the architecture of each row."""
    frame = pd.read_csv(TABLES / f"{name}.csv.gz")
    space = rfs.SearchSpace.load(folder_of(name) / "space.toml")
    params = [name for name in space.distributions() if name in frame]
    shared: dict[str, rfs.Architecture] = {}  # What one has worked out is there for its equals.
    every = (space.from_params(row) for row in frame[params].to_dict("records"))
    return frame.assign(architecture=[shared.setdefault(one.fingerprint, one) for one in every])


def table_of(
    name: str, train: Callable[[int], None], rows: Callable[[list[int]], pd.DataFrame]
) -> pd.DataFrame:
    """All trainings of an experiment; trained first, unless `--only-draw` is given.

    Args:
        name: Of the table.
        train: Trains what has not been trained yet with a seed.
        rows: All trainings with some seeds.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only-draw", action="store_true")
    options = parser.parse_args()
    if not options.only_draw:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        for seed in options.seeds:
            train(seed)
        write(name, rows(options.seeds))
    return pd.read_csv(TABLES / f"{name}.csv.gz")
