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
    assert not table.columns.str.startswith("Unnamed").any()
    assert table["score"].notna().all()
    assert table["seed"].nunique() >= 1
    by_candidate = table.groupby([c for c in table.columns if c.startswith(("layer", "stage"))])
    assert by_candidate.ngroups > 1


def test_every_table_of_the_experiments_is_installed() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    included = build["targets"]["wheel"]["force-include"]
    assert included["experiments/trained_tables"] == "rfsearch/trained_tables"
    folder = ROOT / "experiments" / "trained_tables"
    names = {path.name.partition(".")[0] for path in folder.iterdir()} - {"README"}
    assert names == set(rfs.trained_tables())
    described = (folder / "README.md").read_text()
    assert all(f"`{name}`" in described for name in names)


def test_a_table_that_there_is_not() -> None:
    with pytest.raises(ValueError, match=r"one of .*event_duration, .* but got 'imagenet'"):
        rfs.trained_table("imagenet")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("centred", "search_cost"),
        ("deep_fields", "deep_fields"),
        ("equal", "erf_and_accuracy"),
        ("event_duration", "event_duration"),
        ("global_context", "global_context"),
        ("nuclei", "real_images"),
        ("text_lines", "text_lines"),
    ],
)
def test_rows_are_candidates_of_their_space(name: str, folder: str) -> None:
    """So a sampler's proposals can be looked up; and there is a row for each."""
    space = rfs.SearchSpace.load(ROOT / "experiments" / folder / "space.toml")
    choices = list(space.distributions())
    found = {space.from_params(row) for row in rfs.trained_table(name)[choices].to_dict("records")}
    assert found == set(space)
