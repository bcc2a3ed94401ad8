"""What does it cost to cut tiles out of images on disk, instead of keeping them in memory?

Writes copies of an aerial image of 2299x2472 px, each turned or mirrored another way, with masks
of its trees, and trains the same candidate on their tiles twice: kept in memory, and cut when they
are needed. Each has a process of its own. Memory is that of the process and its readers which the
operating system could not take back; a cache that is empty at first. Then it lets one reader cut
tiles by itself, out of decoded images and out of images that it decodes for every tile. Prints
tables.

Run: pip install --no-deps deepforest==2.1.0
     python experiments/training_speed/tiles_on_disk.py [--images 24] [--workers 1]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

import rfsearch as rfs
from rfsearch.data import package_images
from rfsearch.data.image_pixels import read_pixels
from rfsearch.data.masked_images import masked_images
from rfsearch.data.read_ahead import read_ahead
from rfsearch.data.tile_cuts import Cuts
from rfsearch.data.tiles import Tiling
from rfsearch.target.annotations_voc import read_voc

SPACE = Path(__file__).parents[1] / "segment_nuclei" / "space.toml"
IMAGE = package_images.TREE_IMAGES[1]
SIDE, BATCH = 128, 32
MIB = 2**20


def write_images(folder: Path, number: int) -> None:
    source = package_images._folder("deepforest", "deepforest/data")
    pixels = read_pixels(source / f"{IMAGE}.png")
    mask = np.zeros(pixels.shape[:2], np.uint8)
    for tree in read_voc(source / f"{IMAGE}.xml").objects:
        if tree.box is not None:
            left, top, right, bottom = map(round, tree.box)
            mask[top:bottom, left:right] = 1
    for name, values in (("images", pixels), ("masks", mask)):
        (folder / name).mkdir()
        for n in range(number):
            turned = np.rot90(values, n % 4)
            turned = turned[:, ::-1] if n % 8 >= 4 else turned
            turned = np.roll(turned, 40 * (n // 8), axis=1)  # No two of them are the same.
            Image.fromarray(turned).save(folder / name / f"{n}.png", compress_level=1)


def held_memory(process: int) -> int:
    """Bytes of a process and its children that are not those of files, each page counted once."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    total = 0
    for one in (process, *map(int, children)):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:  # It has ended.
            continue
        parts = [line.split() for line in lines if line.startswith(("Pss_Anon", "Pss_Shmem"))]
        total += sum(int(part[1]) * 1024 for part in parts)
    return total


class Peak:
    """The most memory since the start, looked at ten times a second."""

    def __init__(self) -> None:
        self.most, self.going = 0, True
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self) -> None:
        while self.going:
            self.most = max(self.most, held_memory(os.getpid()))
            time.sleep(0.1)

    def end(self) -> int:
        self.going = False
        self.thread.join()
        return self.most


def load(folder: Path, in_memory: bool) -> rfs.SegmentationData:
    tiling = Tiling(image_size=SIDE, valid_share=0.1, in_memory=in_memory)
    return masked_images(folder / "images", folder / "masks", ("ground", "tree"), tiling)


def train(folder: Path, given: argparse.Namespace) -> dict[str, float]:
    """Load the data and train one candidate for some updates."""
    before, peak, start = held_memory(os.getpid()), Peak(), time.perf_counter()
    data = load(folder, given.part == "kept")
    loaded = time.perf_counter() - start
    config = rfs.TrainingConfig(
        steps=given.steps, batch_size=BATCH, loader_workers=given.workers, horizontal_flip=0.5
    )
    task = rfs.SegmentationTask(data, config, given.device)
    model = task.build(rfs.SearchSpace.load(SPACE)[0])
    _ = task.train_images, task.valid_images
    ready = time.perf_counter()
    evaluated = task.evaluate(model.eval())
    evaluation = time.perf_counter() - ready
    result = task.train(model)
    return {
        "tiles": len(data.train_images),
        "load s": loaded,
        "statistics s": ready - start - loaded,
        "images/s": given.steps * BATCH / (result.seconds - evaluation),
        "memory MiB": (peak.end() - before) / MIB,
        "before": evaluated.value,
        "miou": result.score,
    }


def read(folder: Path, given: argparse.Namespace) -> dict[str, float]:
    """Tiles a second that one reader brings, alone."""
    cuts = load(folder, in_memory=False).train_images
    assert isinstance(cuts, Cuts)
    rng = np.random.default_rng(0)
    places = [rng.integers(len(cuts), size=BATCH).tolist() for _ in range(given.steps)]
    start = time.perf_counter()
    for _ in read_ahead([cuts], places, 1, torch.device("cpu")):
        pass
    cut = given.steps * BATCH / (time.perf_counter() - start)
    files = sorted((folder / "images").iterdir())
    start, decoded = time.perf_counter(), 8
    for file in files[:decoded]:
        read_pixels(file)
    return {"cut": cut, "decoded": decoded / (time.perf_counter() - start)}


def part(folder: Path, name: str, given: argparse.Namespace) -> dict[str, float]:
    options = ["--images", "--steps", "--workers", "--device"]
    values = map(str, (given.images, given.steps, given.workers, given.device))
    command = [sys.executable, __file__, "--part", name, "--folder", str(folder)]
    command += [word for pair in zip(options, values, strict=True) for word in pair]
    cache = os.environ | {"RFSEARCH_CACHE": str(folder / "cache")}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=cache)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--part", choices=["kept", "cut", "read"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        measure = read if given.part == "read" else train
        print(json.dumps(measure(given.folder, given)))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_images(folder, given.images)
        names = ["kept", "cut"] * given.rounds
        rows = [{"tiles are": name} | part(folder, name, given) for name in names]
        alone = part(folder, "read", given)
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format))
    print(f"One reader: {alone['cut']:.0f} tiles/s cut, {alone['decoded']:.1f} images/s decoded.")


if __name__ == "__main__":
    main()
