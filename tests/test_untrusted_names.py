"""Files and names from strangers: what they ask for is read, and never written elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import optuna
import pytest
from experiments_on_folders import write_images
from helpers import TINY_SPACE, refusal, rfsearch
from studies import open_storage

from rfsearch.network.network_folder import load_network

#: A folder's and a study's name, as bad as a file system allows.
NAME = "..;$(touch pwned) <img src=x onerror=alert(1)> %2e%2e?a=b#c {0} 'x'"
EXPERIMENT = """
question = "../../question</script>"
space = "../shared/space.toml"
baselines = "../shared/baselines.toml"
[target]
min_size = 5
max_size = 6
[data]
source = "folder"
path = "../shared/images"
image_size = 16
[training]
epochs = 1
[search]
trained_trials = 1
max_trials = 30
keep_weights = 1
seed = 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An experiment that takes all it can from outside its folder."""
    shared = tmp_path / "shared"
    write_images(shared / "images", count=8)
    (shared / "space.toml").write_text(TINY_SPACE)
    (shared / "baselines.toml").write_text('models = ["test_resnet"]')
    made = tmp_path / NAME
    made.mkdir()
    (made / "experiment.toml").write_text(EXPERIMENT)
    return made


def outside(root: Path, *inside: Path) -> dict[Path, bytes | None]:
    """All that there is but for some folders."""
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
        if not any(path == one or one in path.parents for one in inside)
    }


def test_nothing_is_made_outside_of_the_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "cwd"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    before = outside(tmp_path, folder)
    for command in ("run", "worker"):
        result = rfsearch(command, folder, "--device", "cpu")
        assert result.exit_code == 0, result.output
    assert outside(tmp_path, folder) == before
    out = folder / "report.html"
    assert rfsearch("report", folder, "--out", out).exit_code == 0
    assert "<img src=x" not in out.read_text()
    assert "question</script>" not in out.read_text()
    assert outside(tmp_path, folder) == before
    assert outside(elsewhere) == {}


@pytest.mark.slow
def test_a_network_is_made_in_its_folder_alone(folder: Path, tmp_path: Path) -> None:
    assert rfsearch("run", folder, "--device", "cpu").exit_code == 0
    before = outside(tmp_path, folder)
    net, settings = folder / NAME, folder / "train.toml"
    result = rfsearch("export", folder, "--out", net, "--no-onnx")
    assert result.exit_code == 0, result.output
    settings.write_text("epochs = 1\n[loading]\nbatch_size = 4")
    options = ("--config", settings, "--workers", "0", "--no-onnx", "--device", "cpu")
    result = rfsearch("train", net, "--data", tmp_path / "shared" / "images", *options)
    assert result.exit_code == 0, result.output
    assert outside(tmp_path, folder) == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("../shared/space.toml", "/etc/passwd", "/etc/passwd"),
        ("../shared/space.toml", "../../nowhere.toml", "nowhere.toml: cannot be read"),
        ("../shared/space.toml", "../shared", "../shared"),
        ("../shared/baselines.toml", "/etc/passwd", "baselines: `baselines` must be a list"),
        ("../shared/images", "/nowhere", "/nowhere: not a folder of classes"),
        ("../shared/images", "a\\u0000b", "null"),
        ("../shared/space.toml", "a\\u0000b.toml", "null"),
        ("../shared/baselines.toml", "a\\u0000b.toml", "null"),
        ("../shared/images", "x" * 5000, "name too long"),
        ("../shared/space.toml", "x" * 5000 + ".toml", "name too long"),
    ],
)
def test_paths_that_lead_nowhere_are_one_line(
    folder: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    file = folder / "experiment.toml"
    file.write_text(file.read_text().replace(old, new))
    before = outside(tmp_path)
    line = refusal(rfsearch("run", folder, "--device", "cpu"))
    assert message.lower() in line.lower()
    assert outside(tmp_path) == before


def test_a_file_that_is_nested_without_end_is_one_line(folder: Path) -> None:
    (folder / "experiment.toml").write_text("space = " + "[" * 100_000)
    assert "not a TOML file" in refusal(rfsearch("run", folder, "--device", "cpu"))


def test_weights_are_read_from_the_folder_alone(network_folder: Path, tmp_path: Path) -> None:
    """Whatever file, address or library the configuration of a network names."""
    network = shutil.copytree(network_folder, tmp_path / "network")
    file = network / "config.json"
    config = json.loads(file.read_text())
    (tmp_path / "evil.pth").write_bytes(b"\x80\x04K\x01.")
    config["pretrained_cfg"] |= {
        "file": str(tmp_path / "evil.pth"),
        "url": "http://127.0.0.1:1/evil.pth",
        "hf_hub_id": "../../evil",
        "custom_load": True,
    }
    expected = load_network(network)[0].state_dict()
    file.write_text(json.dumps(config))
    found = load_network(network)[0].state_dict()
    assert all((found[name] == value).all() for name, value in expected.items())


def test_a_study_of_any_name_is_reported(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'a.db'}"
    name = "../../" + NAME
    optuna.create_study(study_name=name, storage=open_storage(address)).add_trial(
        optuna.trial.create_trial(value=1.0)
    )
    out = tmp_path / "out.html"
    result = rfsearch("report", "--storage", address, "--study", name, "--out", out)
    assert result.exit_code == 0, result.output
    assert "<img src=x" not in out.read_text()
    assert {path.name for path in tmp_path.iterdir()} <= {
        "a.db", "a.db-wal", "a.db-shm", "out.html"
    }  # fmt: skip
