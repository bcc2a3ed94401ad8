"""The folder for OptunaHub: its layout, and that its examples run."""

from __future__ import annotations

import importlib.util
import re
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import optuna
import pytest

import rfsearch as rfs

FOLDER = Path(__file__).parents[2] / "experiments/optunahub/package/samplers/feasible"
README = (FOLDER / "README.md").read_text(encoding="utf-8")


def load_module(package: str) -> ModuleType:
    """What `optunahub.load_module` does, from this checkout instead of the registry."""
    path = FOLDER.parents[1] / package / "__init__.py"
    spec = importlib.util.spec_from_file_location("loaded_package", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _optunahub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optunahub", SimpleNamespace(load_module=load_module))  # type: ignore[arg-type]


def test_the_package_gives_the_public_names() -> None:
    module = load_module("samplers/feasible")
    assert module.__all__ == ["FeasibleSampler", "Fold"]
    assert (module.FeasibleSampler, module.Fold) == (rfs.FeasibleSampler, rfs.Fold)


def test_the_readme_has_what_the_hub_asks_for() -> None:
    _, front, text = README.split("---\n", 2)
    keys = [line.partition(":")[0] for line in front.splitlines()]
    assert keys == ["author", "title", "description", "tags", "optuna_versions", "license"]
    assert "tags: [sampler, " in front
    assert "license: MIT License" in front
    headings = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert headings == ["Abstract", "APIs", "Installation", "Example", "Others"]
    assert (FOLDER / "LICENSE").read_text() == (FOLDER.parents[4] / "LICENSE").read_text()


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names = runpy.run_path(str(FOLDER / "example.py"), run_name="__main__")
    study = names["study"]
    assert len(study.trials) == 50
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}
    assert all(names["sampler"].feasible.contains(trial.params) for trial in study.trials)
    count = names["sampler"].feasible.count
    assert f"{count:,} of {5 * 8**8:,} fit" in capsys.readouterr().out
    assert 0 < count < 5 * 8**8


def test_the_example_of_the_readme_runs() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    study = names["study"]
    assert isinstance(study, optuna.Study)
    assert all(
        4 * p["tent"] + 2 * p["rope"] + p["food"] <= 10 for p in (t.params for t in study.trials)
    )
