"""Does the expected ERF predict the trained one, and accuracy? Beside other zero-cost proxies.

Reads the tables of spaces whose candidates are all trained (`../erf_and_accuracy/train.py`).
Prints tables and draws figure.png. Run: python run.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import rfsearch as rfs
from rfsearch.analysis.statistics import rank_correlation
from rfsearch.basics.palette import BLUE, GREY, ORANGE, VERMILLION
from rfsearch.data.device_images import Normalizer

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "erf_and_accuracy"))
from train import target_of  # noqa: E402  # from the folder beside
from trained import tables, trained  # noqa: E402

#: Images that NASWOT compares.
IMAGES = 64


def network(arch: rfs.Architecture) -> nn.Module:
    torch.manual_seed(0)
    return rfs.build_model(arch, in_chans=1, num_classes=10)


@cache
def synflow(arch: rfs.Architecture, size: tuple[int, int, int]) -> float:
    """Tanaka et al., 2020, as a proxy: Abdelfattah et al., 2021. log10, since it spans decades."""
    model = network(arch).double().eval()
    with torch.no_grad():
        for value in model.state_dict().values():
            value.abs_()
    model(torch.ones(1, *size, dtype=torch.float64)).sum().backward()
    grads = [(p * p.grad).sum().item() for p in model.parameters() if p.grad is not None]
    return float(np.log10(sum(grads)))


@torch.no_grad()
def naswot(model: nn.Module, images: Tensor) -> float:
    """Mellor et al., 2021: log determinant of how alike the rectifiers' codes of images are."""
    kernel = torch.zeros(len(images), len(images), dtype=torch.float64)

    def count(_: nn.Module, __: object, output: Tensor) -> None:
        code = (output > 0).flatten(1).double()
        kernel.add_(code @ code.T + (1 - code) @ (1 - code).T)

    for part in model.train().modules():
        if isinstance(part, nn.ReLU):
            part.register_forward_hook(count)
    model(images)
    return float(torch.linalg.slogdet(kernel).logabsdet)


@cache
def images_of(side: int) -> Tensor:
    data = rfs.digit_scenes(object_size=side, num_train=1000, num_valid=1)
    return Normalizer.of(data.train_images)(data.train_images[:IMAGES])


def rows(table: str, side: int) -> Iterator[dict[str, object]]:
    frame = trained(table).query("side == @side")
    means = frame.groupby("architecture", sort=False).mean(numeric_only=True)
    effective = rfs.RFConstraint(target_of(side)).ranges()["expected"]
    middle = np.sqrt(effective.low * effective.high)
    for arch, known in means.iterrows():
        images = images_of(side)
        expected = arch.expected_erf().size
        yield {
            "table": table,
            "side": side,
            "accuracy": known["score"],
            "erf_expected": expected,
            "erf_init": known["erf_init"],
            "erf_trained": known["erf_trained"],
            "trf": float(arch.receptive_field().size),
            "ERF, octaves outside the range": -max(0.0, effective.violation(expected)),
            "ERF, octaves from its middle": -abs(np.log2(expected / middle)),
            "gaps": -arch.coverage().missing,
            "parameters": known["params_m"],
            "FLOPs": known["flops_g"],
            "synflow": synflow(arch, tuple(images.shape[1:])),
            "NASWOT": naswot(network(arch), images),
        }


PROXIES = (
    "ERF, octaves outside the range",
    "ERF, octaves from its middle",
    "gaps",
    "parameters",
    "FLOPs",
    "synflow",
    "NASWOT",
)


def of_accuracy(frame: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of each proxy with accuracy, for each table and object size."""
    found = []
    for (table, side), part in frame.groupby(["table", "side"]):
        texts = {name: str(rank_correlation(part[name], part["accuracy"])) for name in PROXIES}
        found.append({"table": table, "side": side, "candidates": len(part), **texts})
    return pd.DataFrame(found).set_index(["table", "side"])


def of_trained_erf(frame: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation with the trained ERF, and its ratio to the expected one."""
    found = []
    for (table, side), part in frame.groupby(["table", "side"]):
        ratio = (part["erf_trained"] / part["erf_expected"]).quantile([0.05, 0.5, 0.95])
        texts = {
            name: str(rank_correlation(part[name], part["erf_trained"]))
            for name in ("trf", "erf_expected", "erf_init")
        }
        spread = " ".join(f"{value:.2f}" for value in ratio)
        found.append({"table": table, "side": side, **texts, "trained / expected": spread})
    return pd.DataFrame(found).set_index(["table", "side"])


def parabola(sizes: pd.Series, accuracy: pd.Series) -> str:
    """Share of the variance of accuracy that a parabola over log size explains, and its interval.

    A rank correlation would see nothing where accuracy rises and falls again.
    """

    def explained(places: np.ndarray) -> float:
        x, y = np.log2(sizes.to_numpy(float)[places]), accuracy.to_numpy(float)[places]
        return float(1 - np.var(y - np.polyval(np.polyfit(x, y, 2), x)) / np.var(y))

    rng, number = np.random.default_rng(0), len(sizes)
    drawn = [explained(rng.integers(number, size=number)) for _ in range(500)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{explained(np.arange(number)):.2f} ({low:.2f} to {high:.2f})"


def by_size(frame: pd.DataFrame) -> pd.DataFrame:
    """How well each kind of receptive field explains accuracy."""
    found = []
    for (table, side), part in frame.groupby(["table", "side"]):
        kinds = ("trf", "erf_expected", "erf_init", "erf_trained")
        texts = {kind: parabola(part[kind], part["accuracy"]) for kind in kinds}
        found.append({"table": table, "side": side, **texts})
    return pd.DataFrame(found).set_index(["table", "side"])


def draw(frame: pd.DataFrame) -> None:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    looks = zip(tables(), "so^D", (BLUE, GREY, ORANGE, VERMILLION), strict=False)
    for table, marker, color in looks:
        part = frame[frame["table"] == table]
        look = {"marker": marker, "color": color, "alpha": 0.4, "markersize": 4, "linestyle": ""}
        left.plot(part["erf_expected"], part["erf_trained"], label=table, **look)
        right.plot(part["ERF, octaves from its middle"], part["accuracy"], **look)
    ends = [frame["erf_expected"].min(), frame["erf_expected"].max()]
    left.plot(ends, ends, color="0.5", linewidth=1, label="equal sizes")
    left.set(xscale="log", yscale="log", xlabel="expected ERF (px)", ylabel="trained ERF (px)")
    left.legend(fontsize="small")
    right.set(xlabel="expected ERF, octaves from the middle of the range", ylabel="accuracy")
    figure.savefig(HERE / "figure.png", dpi=120)


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    results = pd.DataFrame(
        row
        for t in tables()
        for side in sorted(trained(t)["side"].unique())
        for row in rows(t, side)
    )
    for summary in (of_accuracy, by_size, of_trained_erf):
        print(summary(results).to_string(), end="\n\n")
    draw(results)
