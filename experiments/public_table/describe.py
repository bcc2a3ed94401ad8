"""Describe the networks of NAS-Bench-Macro, which somebody else has trained, in closed form.

Run: python describe.py nas-bench-macro_cifar10.json (from the benchmark's repository, folder
`data`). Writes the table: a row for each training, in ten minutes on one core.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

import rfsearch as rfs

sys.path.append(str(Path(__file__).parent.parent / "erf_and_accuracy"))
from trained import write  # from the folder beside

#: First layers of a stage, which halve the resolution and double the channels.
STAGES = (2, 3, 3)


def block(choice: str, channels: int, out_channels: int, stride: int) -> nn.Module:
    """No layer (a convolution of 1x1 where the shape changes), or an inverted bottleneck."""
    if choice == "0":
        if stride == 1:
            return nn.Identity()
        shortcut = nn.Conv2d(channels, out_channels, 1, stride, bias=False)
        return nn.Sequential(shortcut, nn.BatchNorm2d(out_channels))
    kernel_size, expansion = {"1": (3, 3), "2": (5, 6)}[choice]
    return Bottleneck(channels, out_channels, stride, kernel_size, channels * expansion)


class Bottleneck(nn.Module):
    """An inverted bottleneck, which is added to its input where the shapes are equal."""

    def __init__(
        self, channels: int, out_channels: int, stride: int, kernel_size: int, inner: int
    ) -> None:
        super().__init__()
        self.adds = stride == 1
        self.layers = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(
                inner, inner, kernel_size, stride, kernel_size // 2, groups=inner, bias=False
            ),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


def network(choices: str) -> nn.Module:
    """Everything before the head, as the benchmark's `train/model.py` has it."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
    channels, left = 32, iter(choices)
    for stage in STAGES:
        layers.append(block(next(left), channels, 2 * channels, stride=2))
        channels *= 2
        layers += [block(next(left), channels, channels, stride=1) for _ in range(stage - 1)]
    return nn.Sequential(*layers)


def rows(choices: str, trained: dict[str, Any]) -> Iterator[dict[str, object]]:
    """One for each training of a network."""
    traced = rfs.trace_receptive_field(network(choices), 32)
    layers = {f"layer{number}": choice for number, choice in enumerate(choices, 1)}
    known = {
        "params_m": trained["params"] / 1e6,
        "flops_g": trained["flops"] / 1e9,
        "trf_size": traced.receptive_field().size,
        "erf_sigma": round(traced.expected_erf().sigma, 5),
        "gridding": round(traced.coverage().gridding, 5),
        "skipped": traced.skipped_units(),
    }
    for seed, accuracy in enumerate(trained["test_acc"]):
        yield layers | {"seed": seed, "score": round(accuracy, 2)} | known


if __name__ == "__main__":
    networks = json.loads(Path(sys.argv[1]).read_text())
    every = [one for choices in sorted(networks) for one in rows(choices, networks[choices])]
    write("public_table", pd.DataFrame(every))
