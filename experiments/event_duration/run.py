"""Train every candidate of `space.toml` on events of three durations, without any gate.

Trials go to `study.db`, and what is there already is not trained again. The table
`../trained_tables/event_duration.csv.gz` has a row for each training;
figure.png and what is printed are made of it.
Run: python run.py [--seeds 0 1] [--only-draw]
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import optuna
import pandas as pd
from matplotlib.figure import Figure

import rfsearch as rfs
from rfsearch.analysis.erf_effect import per_object
from rfsearch.analysis.statistics import rank_correlation
from rfsearch.basics.palette import BLUE, VERMILLION
from rfsearch.target.target import ERF_PER_OBJECT

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "erf_and_accuracy"))
from figure import by_ratio  # noqa: E402  # from the folder above
from recordings import data  # noqa: E402
from train import train_missing  # noqa: E402
from trained import storage_of, table_of  # noqa: E402

#: Of the whole vowel, in frames.
DURATIONS = (8, 16, 32)
STRIDES = {1: ("o", BLUE), 2: ("s", VERMILLION)}
COLUMNS = [
    "object_size", "seed", "score", "output_stride", "trf_size", "erf_expected", "erf_init",
    "erf_trained", "params_m", "flops_g", "stem_stride", "stage1_dilation", "stage2_dilation",
]  # fmt: skip


def study_name(duration: int, seed: int) -> str:
    return f"duration {duration}, seed {seed}"


def train(seed: int) -> None:
    """One study for each duration: all candidates, on events of that duration."""
    config = rfs.TrainingConfig(epochs=5, seed=seed)
    for duration in DURATIONS:
        task = rfs.ClassificationTask(data(duration, seed), config)
        train_missing(HERE, study_name(duration, seed), task)


def table(seeds: list[int]) -> pd.DataFrame:
    """All trainings, with the duration of their events in frames."""
    frames = []
    with storage_of(HERE) as storage:
        for duration, seed in product(DURATIONS, seeds):
            study = optuna.load_study(study_name=study_name(duration, seed), storage=storage)
            frames.append(rfs.trials_dataframe(study).assign(object_size=duration))
    return pd.concat(frames, ignore_index=True)[COLUMNS]


def draw(frame: pd.DataFrame) -> None:
    """Accuracy of each candidate, the mean of its trainings, against its ERF over the duration."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    all_axes = figure.subplots(1, len(DURATIONS), sharey=True)
    for axes, (duration, part) in zip(all_axes, frame.groupby("object_size"), strict=True):
        axes.axvspan(*ERF_PER_OBJECT, color="0.9", label="default range")
        choices = ["stem_stride", "stage1_dilation", "stage2_dilation"]
        means = part.groupby(choices, as_index=False)[["score", "erf_expected"]].mean()
        for stride, (marker, color) in STRIDES.items():
            same = means[means["stem_stride"] == stride]
            ratio = same["erf_expected"] / duration
            label = f"output stride {stride}"
            axes.plot(ratio, same["score"], marker, color=color, label=label, alpha=0.7)
        axes.set(xscale="log", title=f"vowels of {duration} frames", xlabel="expected ERF / vowel")
        axes.set_xticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
        axes.minorticks_off()
    all_axes[0].set_ylabel("accuracy")
    all_axes[0].legend(fontsize="small")
    figure.savefig(HERE / "figure.png", dpi=120)


def main() -> None:
    durations = table_of("event_duration", train, table).groupby("object_size")
    frame = pd.concat(per_object(part, duration) for duration, part in durations)
    print(by_ratio(frame).round(3).to_string(index=False))
    for (duration, stride), part in frame.groupby(["object_size", "output_stride"]):
        print(duration, stride, rank_correlation(part["erf_expected"], part["score"]))
    draw(frame)


if __name__ == "__main__":
    main()
