from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from platformdirs import user_cache_path

from rfsearch.data import _array_cache as array_cache
from rfsearch.data._array_cache import ArrayFile, cache_folder, cached_array
from rfsearch.data.loading_errors import LoadingError

pytestmark = pytest.mark.usefixtures("cache")
VALUES = np.arange(60, dtype=np.uint16).reshape(4, 5, 3)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "source.png"
    file.write_bytes(b"what is read")
    return file


class Reader:
    """Counts how often it reads."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> np.ndarray:
        self.calls += 1
        return VALUES


def never() -> np.ndarray:
    raise AssertionError("the cache has it")


def files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def test_parts_are_those_of_what_was_read(source: Path) -> None:
    stored = cached_array(source, "pixels", lambda: VALUES)
    assert stored.shape == VALUES.shape
    part = stored[1:3, 2:9]
    assert part.dtype == VALUES.dtype
    assert (part == VALUES[1:3, 2:9]).all()
    assert not isinstance(part, np.memmap)  # Which would keep the file open.


def test_a_file_is_read_once_for_each_purpose(source: Path) -> None:
    reader = Reader()
    for what in ("pixels x 1.0", "pixels x 0.5", "pixels x 1.0"):
        cached_array(source, what, reader)
    assert reader.calls == 2


def same_size(file: Path) -> None:
    """Other content, as long as before and as old."""
    file.write_bytes(b"WHAT IS READ")
    os.utime(file, ns=(0, 0))


@pytest.mark.parametrize(
    "change",
    [
        same_size,
        lambda file: os.utime(file, ns=(1, 1)),
        lambda file: file.write_bytes(b"longer than that"),
    ],
)
def test_a_file_that_has_changed_is_read_again(
    source: Path, change: Callable[[Path], None]
) -> None:
    os.utime(source, ns=(0, 0))
    cached_array(source, "pixels", lambda: VALUES)
    cached_array(source, "pixels", never)
    change(source)
    reader = Reader()
    cached_array(source, "pixels", reader)
    assert reader.calls == 1


def test_files_of_the_same_name_and_size_are_told_apart(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / source.name
    other.parent.mkdir()
    other.write_bytes(source.read_bytes())
    os.utime(other, ns=(5, 5))
    os.utime(source, ns=(5, 5))
    mine = cached_array(source, "pixels", lambda: VALUES)
    theirs = cached_array(other, "pixels", lambda: VALUES + 1)
    assert (mine[:, :] + 1 == theirs[:, :]).all()


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda content: b"",
    lambda content: content[:40],
    lambda content: content[:150],
    lambda content: content.replace(b"descr", b"de\n'cr"),
    lambda content: b"PK\x03\x04" + content,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_file_is_told_of_and_read_anew(
    source: Path, cache: Path, damage: Callable[[bytes], bytes]
) -> None:
    stored = cached_array(source, "pixels", lambda: VALUES)
    (file,) = files(cache)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(LoadingError, match=r"\.npy: cannot be read from the cache \("):
        stored[:1, :1]
    assert (cached_array(source, "pixels", lambda: VALUES)[:, :] == VALUES).all()
    assert (cached_array(source, "pixels", never)[:, :] == VALUES).all()


def test_others_may_read_what_they_may_read_elsewhere(source: Path, cache: Path) -> None:
    cached_array(source, "pixels", lambda: VALUES)
    (file,) = files(cache)
    other = cache / "other"
    other.touch()
    assert file.stat().st_mode == other.stat().st_mode


def test_what_a_killed_process_left_is_removed(source: Path, cache: Path) -> None:
    cached_array(source, "pixels", lambda: VALUES)
    (file,) = files(cache)
    left = file.parent / ".writing-0123" / "new" / file.name
    left.parent.mkdir(parents=True)
    left.write_bytes(file.read_bytes()[:100])
    os.utime(left.parents[1], (0, 0))
    file.unlink()
    cached_array(source, "pixels", lambda: VALUES)
    assert files(cache) == [file]


def test_what_cannot_be_read_leaves_nothing(source: Path, cache: Path) -> None:
    def broken() -> np.ndarray:
        raise ValueError("source.png: not a readable image.")

    with pytest.raises(ValueError, match=r"^source\.png: not a readable image\.$"):
        cached_array(source, "pixels", broken)
    assert not files(cache)


def test_a_full_disk_is_one_line_and_leaves_nothing(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path, array: np.ndarray) -> None:
        file.write_bytes(array.tobytes()[:50])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(array_cache.np, "save", full)
    with pytest.raises(ValueError, match="cannot be written") as error:
        cached_array(source, "pixels", lambda: VALUES)
    assert str(error.value).startswith(f"{cache}/images/")
    assert str(error.value).endswith(
        "the cache of images cannot be written (No space left on device): set RFSEARCH_CACHE to a "
        "folder with enough room, or `in_memory = true`."
    )
    assert not files(cache)


def test_a_cache_that_cannot_be_made_is_one_line(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RFSEARCH_CACHE", str(source))
    with pytest.raises(ValueError, match=r"cannot be written \(Not a directory\)"):
        cached_array(source, "pixels", lambda: VALUES)


def test_what_is_gone_is_named(source: Path, cache: Path) -> None:
    stored = cached_array(source, "pixels", lambda: VALUES)
    (file,) = files(cache)
    file.unlink()
    with pytest.raises(LoadingError, match=rf"^{file}: cannot be read from the cache \("):
        stored[:1, :1]


def test_nothing_that_is_loaded_runs(source: Path, cache: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return (Path(cache / "ran").touch, ())

    stored = cached_array(source, "pixels", lambda: VALUES)
    (file,) = files(cache)
    file.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(LoadingError, match="cannot be read from the cache"):
        stored[:1, :1]
    assert not (cache / "ran").exists()


def test_other_processes_get_the_place_and_not_the_pixels(source: Path) -> None:
    stored = cached_array(source, "pixels", lambda: np.zeros((500, 500, 3), np.uint8))
    sent = pickle.dumps(stored)
    assert len(sent) < 1000
    received = pickle.loads(sent)
    assert isinstance(received, ArrayFile)
    assert not received[:, :].any()


def test_without_a_variable_the_cache_is_where_the_system_has_caches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RFSEARCH_CACHE")
    assert cache_folder().is_relative_to(user_cache_path("rfsearch"))
