"""Output that is closed, full, or lacks characters, and files in places that are none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import TINY_SPACE, refusal, rfsearch


@pytest.fixture
def space(tmp_path: Path) -> Path:
    file = tmp_path / "space.toml"
    file.write_text(TINY_SPACE)
    return file


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -m rfsearch.cli.main"
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command.replace('rfsearch', program)}"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_reader_that_has_gone_is_no_error(space: Path) -> None:
    done = shell(f"rfsearch space {space} | true")
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_output_that_is_full_is_one_line(space: Path) -> None:
    done = shell(f"rfsearch space {space} > /dev/full")
    expected = "error: standard output cannot be written (No space left on device).\n"
    assert (done.returncode, done.stderr) == (2, expected)


@pytest.mark.parametrize("where", ["2> /dev/full", "2>&-", "> /dev/full 2> /dev/full", ">&-"])
def test_no_output_at_all_changes_nothing_but_what_is_seen(space: Path, where: str) -> None:
    done = shell(f"rfsearch space {space} {where}")
    assert done.returncode == (2 if "> /dev/full 2" in where else 0)
    assert done.stderr == ""
    assert ("architectures   12" in done.stdout) == (where[0] == "2")


def test_characters_that_an_encoding_lacks_and_a_warning_in_one_line(space: Path) -> None:
    done = shell(f"rfsearch space {space} --target 1:6", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: Objects of 1 to 6 px")
    assert "architectures   12" in done.stdout
    assert "???" in done.stdout
    assert done.stdout.isascii()


@pytest.mark.parametrize("place", ["folder.png", "x" * 300 + ".png", "file/a.png"])
def test_pictures_in_places_that_are_none(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    out = tmp_path / place
    line = refusal(rfsearch("erf", "test_resnet", "--input-size", "32", "--out", out))
    assert str(out) in line or str(out.parent) in line


def test_ctrl_c_while_modules_are_loaded() -> None:
    for pause in (0.05, 0.3, 1.0, 2.0):
        process = subprocess.Popen(
            [sys.executable, "-c", f"{USUAL}; from rfsearch.cli.main import main; {READY}main()"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.read(1) == "."
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
        assert stderr == ""


#: A shell without job control starts background commands with SIGINT ignored.
USUAL = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
READY = "print('.', end='', flush=True); sys.argv[1:] = ['erf', 'resnet50', '--num-images', '9'];"
