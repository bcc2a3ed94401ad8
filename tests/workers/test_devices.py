from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import refusal, rfsearch
from test_cli import write_experiment

from rfsearch.workers.devices import free_device, workers_for


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(
        "torch.cuda.get_device_properties",
        lambda number: SimpleNamespace(uuid=f"GPU-{number}", total_memory=2**33),
    )


def test_without_a_gpu_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with free_device(tmp_path) as device:
        assert device == "cpu"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("two_gpus")
def test_each_worker_takes_the_gpu_that_the_fewest_have(tmp_path: Path) -> None:
    with ExitStack() as workers:
        taken = [workers.enter_context(free_device(tmp_path)) for _ in range(5)]
    assert taken == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_is_free_again_when_its_worker_has_ended(tmp_path: Path) -> None:
    with free_device(tmp_path), ExitStack() as second:
        assert second.enter_context(free_device(tmp_path)) == "cuda:1"
        second.close()
        with free_device(tmp_path) as device:
            assert device == "cuda:1"


@pytest.mark.usefixtures("two_gpus")
def test_links_that_others_put_there_are_not_followed(tmp_path: Path) -> None:
    with free_device(tmp_path):
        (lock,) = tmp_path.iterdir()
    lock.unlink()
    lock.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"), free_device(tmp_path):
        pass
    assert not (tmp_path / "precious").exists()


@pytest.mark.usefixtures("two_gpus")
def test_when_all_places_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rfsearch.workers.devices._PLACES", 1)
    with (
        free_device(tmp_path),
        free_device(tmp_path),
        pytest.raises(ValueError, match="All 2 GPUs have 1 workers each"),
        free_device(tmp_path),
    ):
        pass


# -- several workers on each GPU --------------------------------------------------------------


@pytest.mark.usefixtures("two_gpus")
def test_so_many_workers_share_each_gpu(tmp_path: Path) -> None:
    number = workers_for(3)
    with ExitStack() as workers:
        taken = [workers.enter_context(free_device(tmp_path, places=3)) for _ in range(number)]
        assert sorted(taken) == ["cuda:0"] * 3 + ["cuda:1"] * 3
        with (
            pytest.raises(ValueError, match="All 2 GPUs have 3 workers each"),
            free_device(tmp_path, places=3),
        ):
            pass
    with free_device(tmp_path, places=1) as device:  # All places are free again.
        assert device == "cuda:0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_experiment(tmp_path / "tiny")


def test_there_must_be_a_gpu(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for command in ("run", "worker"):
        line = refusal(rfsearch(command, folder, "--trials-per-gpu", 2))
        assert "--trials-per-gpu needs a GPU, but torch finds none; use --workers." in line


@pytest.mark.parametrize("option", [("--workers", 2), ("--device", "cpu"), ("--on", "ray")])
@pytest.mark.usefixtures("two_gpus")
def test_where_to_run_is_said_once(option: tuple[object, ...], folder: Path) -> None:
    line = refusal(rfsearch("run", folder, "--trials-per-gpu", 2, *option))
    assert "it goes with none of --workers, --device and --on ray" in line


@pytest.mark.usefixtures("two_gpus")
def test_a_worker_takes_a_free_gpu_or_the_one_it_is_given(folder: Path) -> None:
    line = refusal(rfsearch("worker", folder, "--trials-per-gpu", 2, "--device", "cpu"))
    assert "--trials-per-gpu takes a free GPU; give it or --device." in line


@pytest.mark.parametrize("each", [1, 4])
@pytest.mark.usefixtures("two_gpus")
def test_run_starts_them_all(each: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[list[str], int]] = []

    def search_together(*arguments: Any) -> bool:
        *_, command, number = arguments
        started.append((command, number))
        return False

    monkeypatch.setattr("rfsearch.cli._worker_pool.search_together", search_together)
    monkeypatch.setattr("rfsearch.cli.run._print_results", lambda *_: None)
    result = rfsearch("run", folder, "--trials-per-gpu", each)
    assert result.exit_code == 0, result.output
    ((command, number),) = started
    assert number == 2 * each
    assert command[-2:] == ["--trials-per-gpu", str(each)]
