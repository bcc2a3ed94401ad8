"""Small things that several test files need."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import typer.testing
from click.testing import Result
from studies import all_closed
from torch import nn
from typer.main import get_command
from typer.testing import CliRunner

from rfsearch.cli.app import app
from rfsearch.data.augmentation import UNVARIED, Batch, Variation
from rfsearch.measure.erf import measure_erf
from rfsearch.network.architecture import Architecture

# typer would build all commands anew for each command line.
typer.testing._get_command = cache(get_command)  # type: ignore[attr-defined]

SPACES = Path(__file__).parent.parent / "search_spaces"
#: A space of twelve small networks, as a TOML file says it.
TINY_SPACE = """
[stem]
kernel_size = 3
stride = 1
width = 4
[[stages]]
block = "plain"
depth = [1, 2, 3]
width = 4
kernel_size = [3, 5]
stride = [1, 2]
"""


def stage_dict(
    block: str = "plain",
    width: int = 8,
    stride: int = 1,
    kernels: tuple[int, ...] = (3,),
    dilation: int = 1,
    **others: Any,
) -> dict[str, Any]:
    """A stage as plain data, one block for each kernel size."""
    blocks = [{"kernel_size": k, "dilation": dilation if k > 1 else 1} for k in kernels]
    return {"block": block, "width": width, "stride": stride, "blocks": blocks, **others}


def architecture(
    *stages: dict[str, Any],
    kernel_size: int = 3,
    stride: int = 1,
    width: int = 8,
    pool: str = "none",
    kind: str = "conv",
    neck: dict[str, Any] | None = None,
) -> Architecture:
    """An architecture from its stages; the keywords but the last are those of the stem."""
    stem = {"kind": kind, "kernel_size": kernel_size, "stride": stride, "width": width}
    stem["pool"] = pool
    stages_or_one = list(stages) or [stage_dict()]
    return Architecture.from_dict({"stem": stem, "stages": stages_or_one, "neck": neck})


def batch_of(*numbers: int, variation: Variation = UNVARIED) -> Batch:
    """The training images with these numbers, on the CPU."""
    return Batch(torch.tensor(numbers), numbers, variation, seeds=numbers)


def resnet(block: str, depths: tuple[int, ...], width: int = 64) -> Architecture:
    """The ResNets of He et al., 2016, with the stride on the 3x3 ("v1.5")."""
    expansion = 4 if block == "bottleneck" else 1
    stages = [
        stage_dict(block, expansion * width * 2**i, 2 if i else 1, (3,) * depth)
        for i, depth in enumerate(depths)
    ]
    return architecture(*stages, kernel_size=7, stride=2, width=width, pool="max")


def measured_sigma(
    build: Callable[[], nn.Module],
    input_size: int,
    num_images: int,
    num_initialisations: int,
    *,
    local: bool = False,
) -> float:
    """Sigma of the mean squared gradient over initialisations, in px."""
    variances = []
    for seed in range(num_initialisations):
        torch.manual_seed(seed)
        erf = measure_erf(build(), input_size, num_images=num_images, seed=seed, local=local)
        variances.append(erf.sigma**2)
    return math.sqrt(sum(variances) / len(variances))


def rfsearch(*arguments: str | Path) -> Result:
    """Run the command line in this process; whatever comes of it, no database is left open."""
    with all_closed():
        return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refusal(result: Result) -> str:
    """The one line that says what is wrong with the user's input."""
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert "Traceback" not in result.output
    return lines[0]
