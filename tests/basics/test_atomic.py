from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file

from rfsearch.basics.atomic import NotWrittenError, atomic_file, atomic_folder, recover_folder

#: Writes half of a file, or of a folder of two files, and is killed.
KILLED = """
import os, signal, sys
from pathlib import Path
from rfsearch.basics import atomic
place, when = Path(sys.argv[2]), sys.argv[3]
if when == "moving":  # Only the first file gets to its place.
    replace = Path.replace
    def once(self, target):
        replace(self, target)
        os.kill(os.getpid(), signal.SIGKILL)
    Path.replace = once
if sys.argv[1] == "file":
    with atomic.atomic_file(place) as new:
        new.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
with atomic.atomic_folder(place, instead=("b", "c")) as new:
    (new / "a").write_text("new")
    if when == "writing":
        os.kill(os.getpid(), signal.SIGKILL)
    (new / "b").write_text("new")
"""


def write_and_die(kind: str, place: Path, when: str = "writing") -> None:
    command = [sys.executable, "-c", KILLED, kind, str(place), when]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    # What is older than a second is nobody's who is just beginning.
    for left in place.parent.rglob(".writing-*"):
        os.utime(left, (time.time() - 5,) * 2)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file can be larger than 512 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


# -- files ------------------------------------------------------------------------------------


def test_a_file_takes_its_place_at_the_end_and_keeps_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    file.chmod(0o640)
    with atomic_file(file) as new:
        new.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [file]


def test_a_new_file_can_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_file(tmp_path / "weights.safetensors") as new:
        save_file({"a": torch.zeros(3)}, new)  # It lets nobody but the owner.
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to(tmp_path / "there" / "file")
    for text in ("first", "second"):
        with atomic_file(tmp_path / "here") as new:
            new.write_text(text)
    assert (tmp_path / "here").is_symlink()
    assert (tmp_path / "there" / "file").read_text() == "second"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with atomic_file(pipe) as new:
        new.write_text("text")
    assert os.read(reader, 10) == b"text"
    os.close(reader)


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, ValueError, OSError])
def test_an_error_leaves_the_old_file(tmp_path: Path, kind: type[BaseException]) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")

    def fail() -> None:
        with atomic_file(file) as new:
            new.write_text("half")
            raise kind("boom")

    with pytest.raises(kind, match="boom"):
        fail()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_killed_process_left_is_taken_away(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    write_and_die("file", file)
    assert file.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_file(tmp_path / "another.txt") as new:
        new.touch()
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "another.txt"}


def test_what_another_is_writing_is_left_alone(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a") as first:
        first.write_text("first")
        os.utime(first.parents[1], (time.time() - 5,) * 2)
        with atomic_file(tmp_path / "a") as second:
            second.write_text("second")
    assert (tmp_path / "a").read_text() == "first"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no/a.txt", "No such file or directory"),
        ("x" * 300, "File name too long"),
        (".", "Is a directory"),
        ("file/a.txt", "Not a directory"),
    ],
)
def test_places_that_cannot_be_written(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotWrittenError) as error, atomic_file(tmp_path / name) as new:
        new.touch()
    assert str(error.value) == f"{tmp_path / name}: cannot be written ({reason})."
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_longest_name_that_a_file_may_have(tmp_path: Path) -> None:
    with atomic_file(tmp_path / f"{'x' * 251}.png") as new:
        Figure().savefig(new)
    assert (tmp_path / f"{'x' * 251}.png").read_bytes().startswith(b"\x89PNG")


WRITERS = {
    "text": lambda file: file.write_text("x" * 1_000),
    "figure": lambda file: Figure().savefig(file),
    "safetensors": lambda file: save_file({"a": torch.rand(1_000)}, file),
    "torch": lambda file: torch.save(torch.rand(1_000), file),
}


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "a.png"
    file.write_text("old")
    with (
        pytest.raises(NotWrittenError, match=r"a\.png: cannot be written \(.*\)\.$"),
        atomic_file(file) as new,
    ):
        WRITERS[kind](new)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


# -- folders ----------------------------------------------------------------------------------


OLD = {"a": "old", "c": "old", "other": "old"}


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def contents(folder: Path) -> dict[str, str]:
    assert not list(folder.glob(".writing-*"))
    return files(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With an old file that is replaced, one that is to go, and one that is somebody else's."""
    place = tmp_path / "folder"
    place.mkdir()
    for name, text in OLD.items():
        (place / name).write_text(text)
    return place


def test_a_folder_is_as_it_was_until_the_end(folder: Path) -> None:
    with atomic_folder(folder, instead=("a", "c")) as new:
        (new / "a").write_text("new")
        (new / "b").write_text("new")
        assert files(folder) == OLD
    assert contents(folder) == {"a": "new", "b": "new", "other": "old"}


def test_an_error_leaves_no_folder_where_there_was_none(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_folder(tmp_path / "new") as new:
            (new / "a").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_not_complete_is_as_it_was(folder: Path) -> None:
    write_and_die("folder", folder)
    recover_folder(folder)
    assert contents(folder) == OLD


def test_a_folder_that_was_complete_is_completed(folder: Path) -> None:
    write_and_die("folder", folder, "moving")
    assert files(folder) not in (OLD, {"a": "new", "b": "new", "other": "old"})
    recover_folder(folder)
    assert contents(folder) == {"a": "new", "b": "new", "other": "old"}


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_leaves_the_old_folder(folder: Path) -> None:
    with (
        pytest.raises(NotWrittenError, match=r"folder: cannot be written \("),
        atomic_folder(folder) as new,
    ):
        torch.save(torch.rand(1_000), new / "a")
    assert contents(folder) == OLD


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(NotWrittenError, match="File exists"), atomic_folder(tmp_path / "a"):
        pass
