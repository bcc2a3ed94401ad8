"""Blocks of an installed package on the command line, from search to export."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from experiments_on_folders import HAS_ONNX, write_experiment

from rfsearch.network.block_registry import GROUP

PACKAGE = Path(__file__).parents[2] / "experiments" / "own_blocks"
SPACE = """
[stem]
stride = 1
width = 4
[[stages]]
block = "ghost"
depth = 1
width = 8
[[stages]]
block = "mixed"
depth = [1, 2]
width = 8
options = { sizes = [1, 2] }
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, installed into a folder by what its `pyproject.toml` says."""
    folder = tmp_path_factory.mktemp("site")
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    shutil.copy(PACKAGE / "own_blocks.py", folder)
    info = folder / f"own-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = project["entry-points"][GROUP].items()
    lines = [f"[{GROUP}]", *(f"{name} = {module}" for name, module in points)]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def run(site: Path | None, *command: object) -> subprocess.CompletedProcess[str]:
    here = str(Path(__file__).parents[2])
    paths = [str(site), here] if site else [here]
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def rfsearch(site: Path | None, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run(site, "-m", "rfsearch.cli.main", *arguments)


@pytest.mark.slow
def test_a_search_with_workers_reports_and_exports(site: Path, tmp_path: Path) -> None:
    folder, out = write_experiment(tmp_path / "experiment"), tmp_path / "out"
    (folder / "space.toml").write_text(SPACE)
    searched = rfsearch(site, "run", folder, "--workers", 2, "--device", "cpu")
    assert searched.returncode == 0, searched.stderr
    assert "4 trained to the end" in searched.stdout
    reported = rfsearch(site, "report", folder, "--out", tmp_path / "report.html")
    assert reported.returncode == 0, reported.stderr
    onnx = [] if HAS_ONNX else ["--no-onnx"]
    exported = rfsearch(site, "export", folder, "--out", out, *onnx)
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.count("scores within") == 1 + HAS_ONNX
    assert "rfsearch and what has its blocks (ghost, mixed) are installed" in (
        out / "README.md"
    ).read_text(encoding="utf-8")
    first, second = json.loads((out / "architecture.json").read_text())["stages"]
    assert (first["block"], set(first["options"])) == ("ghost", {"se", "expansion"})
    assert second["options"]["sizes"] in (1, 2)

    read = rfsearch(site, "rf", out)
    assert read.returncode == 0, read.stderr
    assert "stages.1" in read.stdout
    for place in (out, out / "architecture.json"):
        refused = rfsearch(None, "rf", place)
        assert refused.returncode == 2
        (line,) = refused.stderr.splitlines()
        assert f"error: {place}: " in line
        assert "stage 1, block: block 'ghost' is not registered here: it must be" in line


def test_the_experiment_runs() -> None:
    code = f"import sys; sys.path.insert(0, {str(PACKAGE)!r}); import run; run.main(1, 1)"
    ran = run(None, "-c", code)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert "of 57,600 fit" in lines[0]
    assert "'stage3_block': 'mixed'" in lines[3]
    expected, measured = (float(word) for word in lines[4].split() if word.count(".") == 1)
    assert measured == pytest.approx(expected, rel=0.1)
