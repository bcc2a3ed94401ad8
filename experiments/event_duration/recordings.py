"""Streams of speech in which one whole vowel stands among fragments of others.

640 utterances of the vowels /ae/ by nine men, of 7 to 29 frames with twelve cepstrum coefficients
(Kudo, Toyama and Shimbo, 1999; CC BY 4.0), come inside the package aeon (BSD-3). As for the digits
of `rfsearch.data.scenes`, one of them is brought to a known duration and laid over fragments of
others: who speaks it can only be told by a network that sees more than a fragment.
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import rfsearch as rfs

#: Frames of a stream, and length of a fragment over that of the vowel.
FRAMES, FRAGMENT = 128, 0.7
FOLDER = "aeon/datasets/data/JapaneseVowels"


class Utterances(NamedTuple):
    """Each `(coefficients, frames)`, with its speaker from 0."""

    series: list[NDArray[np.float32]]
    speakers: NDArray[np.int64]


def utterances(part: str) -> Utterances:
    """Those for training, or for judging: `TRAIN` or `TEST`."""
    file = distribution("aeon").locate_file(f"{FOLDER}/JapaneseVowels_{part}.ts")
    text = Path(str(file)).read_text(encoding="utf-8")
    lines = text.partition("@data\n")[2].splitlines()
    series, speakers = [], []
    for line in filter(None, lines):
        *rows, speaker = line.split(":")
        series.append(np.array([row.split(",") for row in rows], np.float32))
        speakers.append(int(speaker) - 1)
    return Utterances(series, np.array(speakers))


def lasting(series: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """An utterance brought to so many frames."""
    given = torch.from_numpy(series)[None]
    return torch.nn.functional.interpolate(given, frames, mode="linear")[0].numpy()


def streams(
    spoken: Utterances, number: int, duration: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Streams `(streams, coefficients, FRAMES)`, and who speaks the whole vowel of each."""
    rng = np.random.default_rng(seed)
    vowels = np.stack([lasting(one, duration) for one in spoken.series])
    fragment = max(3, round(FRAGMENT * duration))
    filled = np.zeros((number, vowels.shape[1], FRAMES), np.float32)
    chosen = rng.integers(len(vowels), size=number)
    for stream, vowel in zip(filled, vowels[chosen], strict=True):
        for start in range(0, FRAMES, fragment):
            piece, cut = rng.integers(len(vowels)), rng.integers(duration - fragment + 1)
            end = min(FRAMES, start + fragment)
            stream[:, start:end] = vowels[piece][:, cut : cut + end - start]
        start = rng.integers(FRAMES - duration + 1)
        stream[:, start : start + duration] = vowel
    return torch.from_numpy(filled), torch.from_numpy(spoken.speakers[chosen])


def data(duration: int, seed: int, num_train: int = 2000, num_valid: int = 1000) -> rfs.ImageData:
    """Streams for training and, of other utterances, for judging."""
    train = streams(utterances("TRAIN"), num_train, duration, seed)
    valid = streams(utterances("TEST"), num_valid, duration, 1000 + seed)
    return rfs.ImageData(*train, *valid, tuple(f"speaker {n}" for n in range(1, 10)))
