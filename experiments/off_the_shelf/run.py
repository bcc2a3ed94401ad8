"""A search and its winner against networks off the shelf, for the same processor time.

Each row of results.csv is one way to spend the time of a case: to search and then train the
winner, or to train a network off the shelf. What is there already is not done again.
Run: pip install --no-deps stardist==0.9.2
     python run.py train; python run.py latency; python run.py draw
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
import pandas as pd
import segmentation_models_pytorch as smp
import torch
from matplotlib.figure import Figure
from parts import Parts, digits, nuclei
from torch import nn

import rfsearch as rfs
from rfsearch.basics.palette import SERIES
from rfsearch.search.experiment import Experiment
from rfsearch.training.config import to_convergence
from rfsearch.training.task import Task

HERE = Path(__file__).parent
RESULTS = HERE / "results.csv"
SEARCH, UNET = "search", "U-Net, resnet18"
#: The one network off the shelf that is also trained with the recipe of the search's trainings.
BRIEF = "resnet18, recipe of the search"
SEEDS = (0, 1, 2)
#: Processor time of each way, in seconds.
SECONDS = 120
#: Updates that the speed of a training is measured on.
TIMED = 20

#: What a task builds a network of: an architecture, or a name of timm or `UNET`.
Network = rfs.Architecture | str


@dataclass(frozen=True)
class Case:
    """A search, its data, and what there is off the shelf.

    Attributes:
        folder: Of the experiment, which has space, target, batch size and learning rate.
        data: Gives the parts that belong to a seed.
        shelf: Networks to train instead.
        epochs: Of each training in the search.
        horizontal_flip: Probability of mirroring an image in the final training.
    """

    folder: str
    data: Callable[[int], Parts]
    shelf: tuple[str, ...]
    epochs: int
    horizontal_flip: float = 0.0


CASES = {
    "digits": Case(
        "quickstart", digits, ("resnet18", BRIEF, "efficientnet_b0", "mobilenetv3_large_100"), 3
    ),
    "nuclei": Case("segment_nuclei", nuclei, (UNET,), 12, 0.5),
}


# -- training ------------------------------------------------------------------------------


def build(task: Task, network: Network) -> nn.Module:
    """A network with random weights and the task's head, which is a U-Net's last layer, too."""
    if network != UNET:
        return task.build(network)
    torch.manual_seed(task.training.seed)
    unet = smp.Unet("resnet18", encoder_weights=None, in_channels=task.in_chans)
    unet.segmentation_head = nn.Identity()
    return task.build(unet)


def costs(task: Task, network: Network) -> tuple[float, float]:
    """Parameters in millions, and operations in 10^9 for one image; a multiply-add is two."""
    model = build(task, network)
    traced = rfs.trace_receptive_field(model, task.input_size, in_chans=task.in_chans)
    return traced.cost().parameters / 1e6, traced.cost().flops / 1e9


def speed(task: Task, network: Network) -> float:
    """Updates per second of processor time, with validation after each epoch."""
    model = build(task, network)
    short = replace(task, training=task.training.model_copy(update={"steps": TIMED}))
    start = time.process_time()
    short.train(model)  # It is judged before and after.
    trained = time.process_time()
    task.evaluate(model.eval())
    judging = time.process_time() - trained
    update = (trained - start - 2 * judging) / TIMED
    return 1 / (update + judging / task.training.updates_per_epoch(task.num_images))


def spend(
    case: Case, seed: int, network: Network, seconds: float, *, brief: bool = False
) -> dict[str, object]:
    """Train a network for some seconds of processor time as `rfsearch train` does, and test it.

    `brief` takes the recipe of the search's trainings instead, and keeps the best epoch, too.
    """
    loaded = Experiment.load(HERE.parent / case.folder, device="cpu")
    data, test = case.data(seed)
    given = {"seed": seed, "batch_size": loaded.task.batch_size, "steps": TIMED}
    given |= {"horizontal_flip": case.horizontal_flip, "keep_best": True}
    recipe = given if brief else to_convergence(loaded.task.name, given)
    config = rfs.TrainingConfig(**recipe)
    task = replace(loaded.task, data=data, training=config)
    steps = max(1, round(seconds * speed(task, network)))
    task = replace(task, training=config.model_copy(update={"steps": steps}))
    model = build(task, network)
    start = time.process_time()
    result = task.train(model)
    used, (parameters, flops) = time.process_time() - start, costs(task, network)
    return {
        "score": replace(task, data=test).evaluate(model.eval()).value,
        "valid_score": result.score,
        "cpu_s": used,
        "epochs": steps / config.updates_per_epoch(task.num_images),
        "tflop": 3 * flops * steps * task.batch_size / 1e3,
        "params_m": parameters,
        "gflop": flops,
    }


def search(case: Case, seed: int) -> dict[str, object]:
    """Search for half of the time, and train the winner for what is left."""
    loaded = Experiment.load(HERE.parent / case.folder, device="cpu")
    training = loaded.task.training.model_copy(update={"seed": seed, "epochs": case.epochs})
    task = replace(loaded.task, data=case.data(seed)[0], training=training)
    space, fits = loaded.space, loaded.constraint
    start = time.process_time()

    def stop(study: optuna.Study, _: optuna.trial.FrozenTrial) -> None:
        if time.process_time() - start >= SECONDS / 2:
            study.stop()

    sampler = rfs.RFSampler(space, fits, base="descriptors", seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(rfs.Objective(space, fits, task), callbacks=[stop])
    used = time.process_time() - start
    row = spend(case, seed, space.from_params(study.best_params), SECONDS - used)
    trained = [trial for trial in study.trials if "train_seconds" in trial.user_attrs]
    flops = sum(trial.user_attrs["flops_g"] for trial in trained)
    row["tflop"] += 3 * flops * case.epochs * task.num_images / 1e3
    row["cpu_s"] += used
    network = json.dumps(study.best_params)
    return row | {"network": network, "search_s": used, "trained": len(trained)}


def row_of(name: str, way: str, seed: int) -> dict[str, object]:
    """One way to spend the time of a case."""
    case, columns = CASES[name], {"case": name, "seed": seed, "way": way, "network": way}
    columns |= {"search_s": 0.0, "trained": 1, "latency_ms": math.nan}
    if way == SEARCH:
        return columns | search(case, seed)
    network = "resnet18" if way == BRIEF else way
    row = spend(case, seed, network, SECONDS, brief=way == BRIEF)
    return columns | {"network": network} | row


def jobs() -> Iterator[tuple[str, str, int]]:
    """Case, way and seed of each row, those that matter most first."""
    ways = {name: (SEARCH, *case.shelf) for name, case in CASES.items()}
    for rank in range(max(map(len, ways.values()))):
        for seed in SEEDS:
            yield from ((name, way[rank], seed) for name, way in ways.items() if rank < len(way))


def train() -> None:
    """Add the rows that are missing."""
    for job in jobs():
        done = pd.read_csv(RESULTS) if RESULTS.exists() else None
        if done is None or job not in set(done[["case", "way", "seed"]].itertuples(False, None)):
            frame, is_first = pd.DataFrame([row_of(*job)]), done is None
            frame.to_csv(RESULTS, mode="a", header=is_first, index=False, float_format="%.5g")


# -- results -------------------------------------------------------------------------------


def time_all() -> None:
    """Time one image through each network, side by side: this is best done on an idle machine."""
    frame = pd.read_csv(RESULTS)
    for (name, network), rows in frame.groupby(["case", "network"]):
        loaded = Experiment.load(HERE.parent / CASES[name].folder, device="cpu")
        is_own = (rows["way"] == SEARCH).all()
        given = loaded.space.from_params(json.loads(network)) if is_own else network
        timed = rfs.measure_latency(build(loaded.task, given), loaded.task.input_size)
        frame.loc[rows.index, "latency_ms"] = timed.latency_ms
    frame.to_csv(RESULTS, index=False, float_format="%.5g")


def print_tables(frame: pd.DataFrame) -> None:
    """Print the means over the seeds, and how much the search is ahead on each."""
    numbers = frame.drop(columns="network").groupby(["case", "way"], sort=False)
    means = numbers.mean().drop(columns="seed").assign(deviation=numbers["score"].std())
    print(means.round(4).to_string())
    scores = frame.pivot_table("score", ["case", "way"], "seed", sort=False)
    ahead = scores.groupby("case", sort=False).transform(lambda one: one.iloc[0] - one)
    print(ahead.assign(mean=ahead.mean(axis=1), error=ahead.sem(axis=1)).round(4).to_string())


def draw() -> None:
    """The tables, and the test score against the time of one image: seeds, and their mean."""
    frame = pd.read_csv(RESULTS)
    print_tables(frame)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    measures = {"digits": "accuracy", "nuclei": "mean intersection over union"}
    for axes, (name, rows) in zip(figure.subplots(1, 2), frame.groupby("case"), strict=True):
        ways = rows.groupby("way", sort=False)
        for color, (way, part) in zip(SERIES, ways, strict=False):
            axes.plot(part["latency_ms"], part["score"], "o", color=color, alpha=0.4)
            means = part[["latency_ms", "score"]].mean()
            axes.plot(*means, "D", color=color, markersize=9, label=way)
        axes.set(xscale="log", xlabel="time of one image (ms)", ylabel=measures[name], title=name)
        axes.set_xticks([1, 3, 10, 30], ["1", "3", "10", "30"])
        axes.minorticks_off()
        axes.margins(0.2, 0.3)
        axes.set_ylim(top=min(1, axes.get_ylim()[1]))
        axes.legend(fontsize="small", loc="center")
    figure.savefig(HERE / "figure.png", dpi=120)


def main() -> None:
    steps = {"train": train, "latency": time_all, "draw": draw}
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=steps)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    steps[parser.parse_args().step]()


if __name__ == "__main__":
    main()
