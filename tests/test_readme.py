from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from rfsearch.basics.validation import parse
from rfsearch.search.experiment import ExperimentConfig
from rfsearch.search.sampler import RFSampler

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_examples_run(code: str) -> None:
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    if "study" in names:
        trials = names["study"].trials
        assert any(trial.state == TrialState.COMPLETE for trial in trials)
        stopped_by = {trial.user_attrs.get("rejected_by") for trial in trials}
        stays_feasible = isinstance(names["study"].sampler, RFSampler)
        assert bool(stopped_by & {"theoretical", "expected"}) != stays_feasible


def test_experiment_example_is_valid() -> None:
    (text,) = blocks("toml")
    config = parse(ExperimentConfig, tomllib.loads(text), "README.md")
    assert config.target.max_size == 30


def test_figures_and_links_exist() -> None:
    root = Path(__file__).parent.parent
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("https://") or (root / link).exists(), link
