"""Tables of trainings that come with the package."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import rfsearch as rfs

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", rfs.trained_tables())
def test_a_row_for_each_training(name: str) -> None:
    table = rfs.trained_table(name)
    assert {"seed", "score", "flops_g"} <= set(table.columns)
    assert table["score"].notna().all()
    assert table["seed"].nunique() >= 2
    by_candidate = table.groupby([c for c in table.columns if c.startswith(("layer", "stage"))])
    assert by_candidate.ngroups > 1


def test_every_table_of_the_experiments_is_installed() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    included = build["targets"]["wheel"]["force-include"]
    tables = {str(p.relative_to(ROOT)) for p in ROOT.glob("experiments/*/trained.csv*")}
    assert tables == {path for path in included if path.startswith("experiments/")}
    for path in tables:
        name = Path(path).parent.name + "".join(Path(path).suffixes)
        assert included[path] == f"rfsearch/trained_tables/{name}"
    assert {Path(path).parent.name for path in tables} == set(rfs.trained_tables())


def test_a_table_that_there_is_not() -> None:
    with pytest.raises(ValueError, match=r"must be one of event_duration, .* but got 'imagenet'"):
        rfs.trained_table("imagenet")
