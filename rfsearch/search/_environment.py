"""Where a trial ran, so that its numbers can be had again: versions, device and git state."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import nn

_PACKAGES = ("rfsearch", "torch", "timm", "optuna")
#: Seconds that git may take; in a huge repository its state is not worth more.
_PATIENCE = 10.0


def environment_of(model: nn.Module, folder: Path | None = None) -> str:
    """JSON with `device`, `threads`, `versions` and, where the folder is in a repository, `git`.

    `git` has the `commit` and whether the repository is `dirty`: whether files that git knows have
    changed. Files that it does not know are left out, as a search writes its results into the
    folder. It is looked at once per process and folder, since the code was read once too.

    Args:
        model: The network, on its device.
        folder: Of the experiment.
    """
    values: dict[str, Any] = {
        "device": device_name(next(model.parameters()).device),
        "threads": torch.get_num_threads(),
        "versions": _versions(),
    }
    state = _git_state(folder.resolve()) if folder is not None else None
    return json.dumps(values if state is None else values | {"git": state})


def device_name(device: torch.device) -> str:
    """The GPU's name, or `cpu` with the processor's kind, such as `cpu (x86_64)`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()})"


@cache
def _versions() -> dict[str, str | None]:
    """Of packages and Python; each time they are asked for, files of the packages are read."""
    packages = {name: version(name) for name in _PACKAGES}
    return packages | {"python": platform.python_version(), "cuda": torch.version.cuda}


@cache
def _git_state(folder: Path) -> dict[str, str | bool] | None:
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if not commit or changes is None:
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None without git, a repository or an answer in time."""
    # A repository may name a program that `git status` would start; and locks disturb others.
    options = ("-c", "core.fsmonitor=false", "--no-optional-locks", "-C", str(folder))
    # Set inside git's hooks, where they name another repository.
    clean = {k: v for k, v in os.environ.items() if k not in ("GIT_DIR", "GIT_WORK_TREE")}
    try:
        done = subprocess.run(
            ["git", *options, *arguments],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            env=clean,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
