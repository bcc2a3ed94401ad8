from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from rfsearch.devices import free_device


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(
        "torch.cuda.get_device_properties", lambda number: SimpleNamespace(uuid=f"GPU-{number}")
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
    monkeypatch.setattr("rfsearch.devices._PLACES", 1)
    with (
        free_device(tmp_path),
        free_device(tmp_path),
        pytest.raises(ValueError, match="All 2 GPUs have 1 workers each"),
        free_device(tmp_path),
    ):
        pass
