"""How fast are candidates trained, against timm's own loop and a plain PyTorch loop?

All train the same candidates from the same weights on the same images for as many epochs, with
the same optimiser and schedule, in turns. The time is that of the training epochs, with the start
and the end of loaders' processes; validation, the same for all, is left out. On CUDA, one more
training of each runs under torch's profiler. Prints a table.

Run: python experiments/training_speed/run.py [--device cuda] [--workers 8] [--repeats 3]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from contenders import CONTENDERS, Race
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import rfsearch as rfs


def busy_share(intervals: Iterable[tuple[float, float]]) -> float:
    """Share of the time from the first start to the last end that some interval covers."""
    ordered = sorted(intervals)
    first = end = ordered[0][0]
    busy = 0.0
    for start, stop in ordered:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return busy / (end - first)


def profiled(race: Race, name: str, task: rfs.ClassificationTask, arch: rfs.Architecture) -> float:
    """Share of the time in which the device computes or copies, validation included.

    The profiler slows the host down, so that without it the device is at least as busy.
    """
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        race.run(CONTENDERS[name], task.build(arch))
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or ()
        if event.device_type == DeviceType.CUDA
    ]
    return busy_share(spans)


def candidates(number: int) -> list[rfs.Architecture]:
    """Some of the space's, from small to large."""
    space = rfs.SearchSpace.load(Path(__file__).with_name("space.toml"))
    feasible = space.feasible(rfs.RFConstraint(rfs.ScaleTarget(min_size=10, max_size=14)))
    rng = np.random.default_rng(0)
    drawn = [feasible.sample(rng) for _ in range(number)]
    return sorted(drawn, key=lambda arch: arch.cost((48, 48), in_chans=1).flops)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=3)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    given = parser.parse_args()
    device = torch.device(given.device)
    data = rfs.digit_scenes(object_size=18, num_train=given.images, num_valid=1000)
    config = rfs.TrainingConfig(epochs=given.epochs, batch_size=given.batch_size)
    task = rfs.ClassificationTask(data, config, device)
    images = given.epochs * (given.images // given.batch_size) * given.batch_size
    lanes = [("ours", 0)] + [
        (name, w) for w in given.workers for name in CONTENDERS if name != "ours"
    ]
    races = {lane: Race(data, config, device, workers=lane[1]) for lane in lanes}
    archs = candidates(given.candidates)
    races[lanes[0]].run(CONTENDERS["ours"], task.build(archs[0]))  # Sets up torch, untimed.
    rows = []
    for repeat in range(given.repeats):
        for number, arch in enumerate(archs):
            turn = (repeat * len(archs) + number) % len(lanes)
            for name, workers in lanes[turn:] + lanes[:turn]:
                race = races[name, workers]
                accuracy, spent = race.run(CONTENDERS[name], task.build(arch))
                row = {"candidate": number, "repeat": repeat, "loop": name, "workers": workers}
                row |= {"accuracy": accuracy, "wall": images / spent.wall}
                rows.append(row | {"cpu": images / spent.cpu})
                print(rows[-1], flush=True)
    frame = pd.DataFrame(rows)
    first = frame[frame.loop == "ours"].set_index(["candidate", "repeat"])
    for clock in ("wall", "cpu"):
        mine = first[clock].loc[list(zip(frame.candidate, frame.repeat, strict=True))]
        frame[f"ours / it, {clock}"] = mine.to_numpy() / frame[clock]
    groups = frame.drop(columns=["repeat"]).groupby(["candidate", "loop", "workers"])
    print(groups.median().round(3).to_string())
    print(
        frame.drop(columns=["repeat", "candidate"]).groupby(["loop", "workers"]).median().round(3)
    )
    print(frame.groupby(["loop", "workers"]).accuracy.agg(["mean", "std"]).round(4))
    if device.type == "cuda":
        for name, workers in lanes:
            shares = [profiled(races[name, workers], name, task, arch) for arch in archs]
            print(name, workers, "device busy:", [round(share, 3) for share in shares])
    print(f"{device}, threads: {torch.get_num_threads()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
