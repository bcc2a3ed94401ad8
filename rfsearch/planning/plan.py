"""An experiment planned from data: each decision with its number and its reason, and the files."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rfsearch.basics.validation import parse
from rfsearch.planning import _schedule, _spaces
from rfsearch.planning._decisions import Decisions, decide
from rfsearch.planning._derived import data_table, to_toml
from rfsearch.planning._finding import find_data
from rfsearch.planning._loading import load
from rfsearch.planning._readme import read_me
from rfsearch.planning._sizing import Sizing, size_up
from rfsearch.planning._survey import survey
from rfsearch.search.config import ExperimentConfig


@dataclass(frozen=True)
class Plan:
    """What `rfsearch init` writes.

    Attributes:
        files: Text of each file by its name.
        decisions: What was decided, with numbers and reasons.
    """

    files: dict[str, str]
    decisions: Decisions

    @property
    def warning(self) -> str:
        """What stands in the way of a good search, in a line; empty if nothing does."""
        made = self.decisions
        if not made.is_hasty:
            return ""
        least = made.pace.wanted * made.pace.epoch
        enough = _schedule.enough(least, made.baseline is not None)
        return (
            f"a candidate has time for {made.passes:.2g} of the {made.pace.wanted} passes over "
            f"the images that are wanted; --budget {_schedule.in_words(enough)} would do."
        )


def plan(
    data: Path,
    out: Path,
    *,
    budget: str = "30min",
    device: str | None = None,
    kind: str | None = None,
    images: Path | None = None,
    semantic: bool | None = None,
    dry_run: bool = False,
) -> Plan:
    """Look at data and write an experiment for it, which `rfsearch run` takes as it is.

    Args:
        data: A folder, or a file of annotations.
        out: The folder to write, which must not be there yet.
        budget: Time that the search may take.
        device: Where it will run.
        kind: What to learn, where it could be several: see `rfsearch.planning._finding`.
        images: Folder of the images, where it is not beside the annotations.
        semantic: Whether the values of masks are classes.
        dry_run: Whether nothing is to be left behind.

    Raises:
        ValueError: One line that says what cannot be used, and why.
    """
    from rfsearch.search.experiment import Experiment

    seconds = _schedule.parse_budget(budget)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: must be a new or empty folder, but there is something in it.")
    found = find_data(data, kind, images, semantic)
    measured = survey(found)
    sizing = size_up(measured, found.kind)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _staged(out, dry_run) as stage, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What was left out stands in the README.
        of_files = data_table(found, stage)
        loaded, table, sizing = load(found, of_files, sizing, stage)
        made = decide(found, measured, sizing, loaded, table, seconds, device)
        if made is None:
            raise ValueError(
                f"{found.source}: no space that is known here holds {_spaces.DIVERSITY[0]} "
                f"networks or more that fit objects of {sizing.target.in_words}: resize the "
                "images, or write a space of your own."
            )
        files = _files(made)
        for file, text in files.items():
            (stage / file).write_text(text, encoding="utf-8")
        Experiment.load(stage, device)
    return Plan(files, made)


@contextmanager
def _staged(out: Path, dry_run: bool) -> Iterator[Path]:
    """A folder that becomes another at the end; beside it, as relative paths are the same."""
    with tempfile.TemporaryDirectory(
        prefix=".rfsearch-init-", dir=out.parent, ignore_cleanup_errors=True
    ) as name:
        stage = Path(name)
        yield stage
        if not dry_run:
            stage.chmod(0o755)
            stage.rename(out)  # An empty folder gives way.


def _files(made: Decisions) -> dict[str, str]:
    values = made.counted.values
    time = made.schedule
    experiment = {
        "question": f"Which networks see the objects of {made.found.name}, "
        f"{made.sizing.target.in_words}?",
        "space": "space.toml",
        "baselines": [made.baseline.name] if made.baseline else [],
        "target": _target(made.sizing, "neck" in values) | made.bounds,
        "data": made.table,
        "training": {
            "epochs": made.pace.most,
            "seconds": time.seconds,
            "batch_size": made.batch_size,
        },
        "search": {"trained_trials": time.trials, "controls": time.controls, "seed": 0},
    }
    parse(ExperimentConfig, experiment, "experiment.toml")
    return {
        "experiment.toml": to_toml(experiment) + "\n",
        "space.toml": to_toml(values) + "\n",
        "README.md": read_me(made),
    }


def _target(sizing: Sizing, is_pyramid: bool) -> dict[str, Any]:
    target = sizing.target
    if target.height is not None and target.width is not None:
        values: dict[str, Any] = {"height": list(target.height), "width": list(target.width)}
    else:
        values = {"min_size": target.min_size, "max_size": target.max_size}
    return values if is_pyramid else values | {"max_output_stride": sizing.max_output_stride}
