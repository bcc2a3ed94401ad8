"""Does the ERF grow with the root of depth, do skips enlarge it, and what does training do to it?

Stacks of 3x3 convolutions with batch normalisation and ReLU, plain and as residual basic blocks
of the same depth and theoretical receptive field: expected, measured at initialisation, and
measured before and after brief training on scenes of digits. Prints tables and draws figure.png
beside this file. Run: python experiments/erf_laws/run.py
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import rfsearch as rfs

DEPTHS = (3, 5, 9, 17, 33, 65)
WIDTH = 32
SEEDS = 3
IMAGES = 8
TRAINING_SEEDS = 2
#: Blocks of two convolutions in each of three stages, of the networks that are trained.
TRAINED_BLOCKS = (1, 3)
CONVOLUTIONS = {"plain": 1, "basic": 2}  # In one block.
COLORS = {"plain": "#0072B2", "basic": "#D55E00"}
NAMES = {"plain": "plain", "basic": "residual"}


def stage(block: str, convolutions: int, width: int, stride: int = 1) -> rfs.Stage:
    blocks = (rfs.Block(kernel_size=3),) * (convolutions // CONVOLUTIONS[block])
    return rfs.Stage(block=block, width=width, stride=stride, blocks=blocks)


def stack(block: str, depth: int) -> rfs.Architecture:
    """`depth` 3x3 convolutions of one width and stride 1."""
    stem = rfs.Stem(kernel_size=3, stride=1, width=WIDTH)
    return rfs.Architecture(stem=stem, stages=(stage(block, depth - 1, WIDTH),))


def measured(arch: rfs.Architecture) -> list[float]:
    """Sigma in px, one for each initialisation; the input holds the whole field."""
    sigmas = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        model = rfs.build_model(arch, in_chans=3, num_classes=0)
        size = arch.receptive_field().size
        erf = rfs.measure_erf(model, size, num_images=IMAGES, seed=seed, relative_error=None)
        sigmas.append(erf.sigma)
    return sigmas


def at_initialisation() -> pd.DataFrame:
    rows = []
    for block in CONVOLUTIONS:
        for depth in DEPTHS:
            arch = stack(block, depth)
            sigmas = measured(arch)
            rows.append(
                {
                    "network": block,
                    "depth": depth,
                    "TRF": arch.receptive_field().size,
                    "root law": np.sqrt(2 * depth / 3),
                    "expected": arch.expected_erf().sigma,
                    "measured": np.sqrt(np.mean(np.square(sigmas))),
                    "lowest": min(sigmas),
                    "highest": max(sigmas),
                }
            )
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()})
    return pd.DataFrame(rows)


def classifier(block: str, blocks: int) -> rfs.Architecture:
    """Three stages of `blocks` times two convolutions; plain and residual see the same."""
    stages = (
        stage(block, 2 * blocks, 8),
        stage(block, 2 * blocks, 16, stride=2),
        stage(block, 2 * blocks, 32, stride=2),
    )
    return rfs.Architecture(stem=rfs.Stem(kernel_size=3, stride=1, width=8), stages=stages)


def through_training() -> pd.DataFrame:
    rows = []
    for seed in range(TRAINING_SEEDS):
        data = rfs.digit_scenes(
            object_size=16, canvas_size=32, num_train=4000, num_valid=1000, seed=seed
        )
        config = rfs.TrainingConfig(epochs=6, seed=seed)
        task = rfs.ClassificationTask(data, config, device="cpu", num_erf_images=16)
        for blocks in TRAINED_BLOCKS:
            for block in CONVOLUTIONS:
                arch = classifier(block, blocks)
                model = task.build(arch)
                before = task.measure_erf(model)
                accuracy = task.train(model).accuracy
                after = task.measure_erf(model)
                expected = arch.expected_erf()
                rows.append(
                    {
                        "network": block,
                        "depth": 1 + 6 * blocks,
                        "seed": seed,
                        "TRF": arch.receptive_field().size,
                        "sigma expected": expected.sigma,
                        "sigma before": before.sigma,
                        "sigma after": after.sigma,
                        "size expected": expected.profile.side_between_pixels(),
                        "size before": before.side_between_pixels(),
                        "size after": after.side_between_pixels(),
                        "accuracy": accuracy,
                    }
                )
                print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def draw(untrained: pd.DataFrame, trained: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    left, *others = figure.subplots(1, 3, width_ratios=(2, 1, 1))
    _draw_law(left, untrained)
    for axes, (depth, part) in zip(others, trained.groupby("depth"), strict=True):
        _draw_training(axes, part)
        axes.set(title=f"{depth} convolutions,\ntheoretical RF {part['TRF'].iloc[0]} px")
    return figure


def _draw_law(axes: Axes, frame: pd.DataFrame) -> None:
    depth = np.array([DEPTHS[0], DEPTHS[-1]])
    axes.plot(
        depth, np.sqrt(2 * depth / 3), color="#BBBBBB", lw=5, label=r"$\sqrt{2L/3}$ (exact taps)"
    )
    axes.plot(depth, np.sqrt(depth / 3), "--", color="#777777", label=r"$\sqrt{L/3}$ (textbook)")
    for block, part in frame.groupby("network", sort=False):
        color, name = COLORS[block], NAMES[block]
        axes.plot(part["depth"], part["expected"], color=color, label=f"{name}, expected", lw=1)
        spread = abs(part[["lowest", "highest"]].sub(part["measured"], axis=0).to_numpy().T)
        axes.errorbar(
            part["depth"], part["measured"], spread, fmt="o" if block == "plain" else "s",
            color=color, label=f"{name}, measured", capsize=3, markerfacecolor="none",
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set(xlabel="depth L (3x3 convolutions)", ylabel="sigma of the squared gradient (px)")
    axes.set_xticks(DEPTHS, [str(d) for d in DEPTHS])
    ticks = [1, 2, 4, 8]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_title("at initialisation")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)


def _draw_training(axes: Axes, frame: pd.DataFrame) -> None:
    stages = ["expected", "before", "after"]
    for shift, (block, part) in zip(
        (-0.06, 0.06), frame.groupby("network", sort=False), strict=True
    ):
        marker = "o" if block == "plain" else "s"
        for number, (_, row) in enumerate(part.iterrows()):
            axes.plot(
                np.arange(3) + shift, [row[f"size {name}"] for name in stages], marker=marker,
                color=COLORS[block], lw=1, markerfacecolor="none",
                label=NAMES[block] if number == 0 else None,
            )  # fmt: skip
    axes.set_xticks(range(3), ["expected", "measured,\nuntrained", "measured,\ntrained"])
    axes.set(ylabel="ERF size (px)", xlim=(-0.4, 2.4))
    axes.set_ylim(0, 1.15 * frame[[f"size {name}" for name in stages]].max().max())
    axes.yaxis.get_major_locator().set_params(integer=True, steps=[1, 5, 10])
    axes.legend(frameon=False, loc="lower left")
    axes.grid(alpha=0.3)


def main() -> None:
    start = time.process_time()
    untrained = at_initialisation()
    print(untrained.round(2).to_string(index=False))
    trained = through_training()
    print(trained.round(2).to_string(index=False))
    numbers = trained.drop(columns="seed").groupby(["depth", "network"])
    print(numbers.agg(["mean", "min", "max"]).round(2).T.to_string())
    print(f"{time.process_time() - start:.0f} CPU seconds")
    draw(untrained, trained).savefig(Path(__file__).parent / "figure.png", dpi=150)


if __name__ == "__main__":
    main()
