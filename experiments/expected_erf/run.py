"""How close is the expected ERF to the measured one, and how much faster?

Random plain and residual architectures with several kernels, dilations and strides, and timm's
resnet18, resnet34 and resnet50. Measured: the mean squared gradient over initialisations and
images of white noise, at an input larger than the theoretical receptive field. Prints a table and
draws figure.png beside this file. Run: python experiments/expected_erf/run.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import timm
import torch
from matplotlib.figure import Figure

import rfsearch as rfs
from rfsearch.field.erf_map import Center, ErfMap

INITIALISATIONS = 3
IMAGES = 8
LARGEST_TRF = 160  # Keeps the measurement to minutes.


class Case(NamedTuple):
    """An architecture and how to build it with fresh weights."""

    name: str
    architecture: rfs.Architecture
    build: Callable[[], torch.nn.Module]


def random_case(kind: str, rng: np.random.Generator) -> Case:
    width = 32
    space = rfs.SearchSpace(
        stem={"kernel_size": [3, 5, 7], "stride": [1, 2], "width": width},
        stages=[
            {
                "block": [kind] if kind == "plain" else ["basic", "bottleneck"],
                "depth": [1, 2, 3, 4],
                "width": width * stage,
                "stride": [1, 2],
                "kernel_size": [3, 5, 7],
                "dilation": [1, 2, 3],
            }
            for stage in (1, 2)
        ],
    )
    while True:
        arch = space.sample(rng)
        if arch.receptive_field().size <= LARGEST_TRF:
            build = partial(rfs.build_model, arch, in_chans=3, num_classes=0)
            return Case(f"{kind} {arch.fingerprint[:6]}", arch, build)


def resnet_case(name: str, block: str, depths: tuple[int, ...], expansion: int) -> Case:
    stages = tuple(
        rfs.Stage(
            block=block,
            width=64 * 2**i * expansion,
            stride=2 if i else 1,
            blocks=(rfs.Block(kernel_size=3),) * depth,
        )
        for i, depth in enumerate(depths)
    )
    arch = rfs.Architecture(
        stem=rfs.Stem(kernel_size=7, stride=2, width=64, pool="max"), stages=stages
    )

    def build() -> torch.nn.Module:
        model = timm.create_model(name, zero_init_last=False)
        model.receptive_fields = arch.receptive_fields  # Saves probing it.
        return model

    return Case(f"timm {name}", arch, build)


def measure(case: Case) -> tuple[ErfMap, float]:
    """Mean over initialisations, and the seconds it took."""
    field = case.architecture.receptive_field()
    side = -(-(field.size + 2 * field.stride) // field.stride) * field.stride
    start = time.perf_counter()
    maps = []
    for seed in range(INITIALISATIONS):
        torch.manual_seed(seed)
        maps.append(rfs.measure_erf(case.build(), side, num_images=IMAGES, seed=seed))
    seconds = time.perf_counter() - start
    mean = ErfMap(
        map=np.mean([erf.map for erf in maps], axis=0),
        power=np.mean([erf.power for erf in maps], axis=0),
        center=Center(*maps[0].center),
        theoretical_size=field.size,
    )
    return mean, seconds


def compare(case: Case) -> dict[str, object]:
    start = time.perf_counter()
    fresh = rfs.Architecture.from_dict(case.architecture.to_dict()).expected_erf()
    sigma = fresh.sigma
    sigma_ms = 1e3 * (time.perf_counter() - start)
    start = time.perf_counter()
    size = fresh.size
    map_ms = 1e3 * (time.perf_counter() - start)
    measured, seconds = measure(case)
    row = {
        "network": case.name,
        "TRF": case.architecture.receptive_field().size,
        "sigma expected": sigma,
        "sigma measured": measured.sigma,
        "sigma error %": 100 * (sigma / measured.sigma - 1),
        "size expected": size,
        "size measured": measured.size,
        "half expected": fresh.profile.square(0.5),
        "half measured": measured.square(0.5),
        "sigma ms": sigma_ms,
        "map ms": map_ms,
        "measured s": seconds,
    }
    print({k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    return row


def draw(frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    kinds = frame["network"].str.split().str[0]
    for kind, marker, color in (
        ("plain", "o", "#0072B2"),
        ("residual", "s", "#D55E00"),
        ("timm", "^", "#000000"),
    ):
        part = frame[kinds == kind]
        label = {"timm": "timm resnet18/34/50"}.get(kind, kind)
        left.plot(part["sigma measured"], part["sigma expected"], marker, color=color, label=label)
        right.plot(part["size measured"], part["size expected"], marker, color=color, label=label)
    for axes, what in ((left, "sigma"), (right, "ERF size")):
        low, high = axes.get_xlim()
        axes.axline((low, low), slope=1, color="#999999", linewidth=1, zorder=0)
        axes.set(xlabel=f"measured {what} (px)", ylabel=f"expected {what} (px)", xlim=(0, high))
        axes.legend()
        axes.grid(alpha=0.3)
    return figure


def main() -> None:
    rng = np.random.default_rng(0)
    cases = [random_case(kind, rng) for kind in ("plain", "residual") for _ in range(10)]
    cases += [
        resnet_case("resnet18", "basic", (2, 2, 2, 2), 1),
        resnet_case("resnet34", "basic", (3, 4, 6, 3), 1),
        resnet_case("resnet50", "bottleneck", (3, 4, 6, 3), 4),
    ]
    frame = pd.DataFrame([compare(case) for case in cases])
    print(frame.round(1).to_string(index=False))
    errors = frame.assign(kind=frame["network"].str.split().str[0])
    print(errors.groupby("kind")["sigma error %"].agg(["min", "max", "mean"]).round(2))
    draw(frame).savefig(Path(__file__).parent / "figure.png", dpi=150)


if __name__ == "__main__":
    main()
