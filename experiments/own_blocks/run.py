"""Counts and draws candidates with blocks of one's own, and measures what their networks see."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import own_blocks  # noqa: F401  # Registers the blocks, as its entry point does where it is installed.
import torch

import rfsearch as rfs

HERE = Path(__file__).parent
TARGET = rfs.ScaleTarget(min_size=16, max_size=24)


def main(draws: int = 8, seeds: int = 4) -> None:
    """Print the set that fits, a member, and what is measured of several."""
    space = rfs.SearchSpace.load(HERE / "space.toml")
    for name, constraint in {
        "theoretical field": rfs.RFConstraint(TARGET, effective=None, max_gridding=None),
        "all gates": rfs.RFConstraint(TARGET),
        "all gates, 20 MFLOPs": rfs.RFConstraint(
            TARGET, budget=rfs.Budget(max_flops_g=0.02, input_size=(96, 96))
        ),
    }.items():
        start = time.perf_counter()
        feasible = space.feasible(constraint)
        about = "" if feasible.is_exact else "at most "
        print(f"{name}: {about}{feasible.count:,} of {space.size:,} fit", end="")
        print(f" ({time.perf_counter() - start:.1f} s)")
    rng = np.random.default_rng(0)
    members = [feasible.sample(rng) for _ in range(draws)]
    print(space.active_params(space.to_params(members[0])))
    for arch in members:
        expected, measured = arch.expected_erf().sigma, measured_sigma(arch, seeds)
        blocks = " ".join(stage.block for stage in arch.stages)
        size = arch.receptive_field().size
        print(f"{blocks}: RF {size} px, sigma {expected:.2f} px, measured {measured:.2f} px")


def measured_sigma(arch: rfs.Architecture, seeds: int) -> float:
    """Sigma of the mean squared gradient over several initialisations, in px."""
    found = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = rfs.build_model(arch, num_classes=0)
        found.append(rfs.measure_erf(model, 224, num_images=8, local=True, seed=seed).sigma ** 2)
    return statistics.fmean(found) ** 0.5


if __name__ == "__main__":
    main()
