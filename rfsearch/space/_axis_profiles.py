"""The expected ERF size of a candidate as its profile along one axis tells it, quickly.

The expected squared gradient along one axis is a convolution of those of the candidate's parts,
which are computed once. If the map were the product of its two axes, as it is where no branches
meet, this would give its ERF size. Branches that meet make the square larger: of 6,950 random
networks of nine shipped spaces none had a smaller one, 99 % one at most 1.043 times as large, and
all one at most 1.104 times as large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rfsearch.field.erf_map import ERF_SHARE
from rfsearch.field.expected_erf import LARGEST_EXACT_SIZE
from rfsearch.space._decisions import decisions
from rfsearch.space._effects import Effects, Situation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rfsearch.feasible.paths import Path
    from rfsearch.space._candidates import Candidates
    from rfsearch.space._decisions import Move, OpenStage


class _Part(NamedTuple):
    """What one decision of a path adds: a profile, a stride, and what comes behind."""

    profile: NDArray[np.float64]
    stride: int
    after: Situation
    stage: OpenStage | None


class AxisProfiles:
    """Looks up parts of candidates, computing each once.

    Args:
        candidates: Those whose paths are asked for; their necks do not upsample.
    """

    def __init__(self, candidates: Candidates) -> None:
        self._sequence = decisions(candidates)
        self._effects = Effects(erf=True, cost=False, saved=False, channels=True)
        self._start = self._effects.start(3, (224, 224))
        self._moves: dict[tuple[int, int, OpenStage | None], dict[int, Move]] = {}
        self._parts: dict[tuple[int, int, Situation, OpenStage | None], _Part] = {}

    def size(self, path: Path) -> int | None:
        """Side in px of the centred square with 95 % of the |gradient|; None if it is large.

        Args:
            path: The option taken in each decision.
        """
        profile, stride = np.ones(1), 1
        situation: Situation = self._start
        stage: OpenStage | None = None
        for number, option in enumerate(path):
            key = (number, option, situation, stage)
            if key not in self._parts:
                self._parts[key] = self._part(*key)
            part = self._parts[key]
            profile = np.convolve(profile, _spaced(part.profile, stride))
            if len(profile) > LARGEST_EXACT_SIZE:
                return None
            stride, situation, stage = stride * part.stride, part.after, part.stage
        return _square(np.sqrt(profile))

    def _part(
        self, number: int, option: int, situation: Situation, stage: OpenStage | None
    ) -> _Part:
        at = (number, situation.channels, stage)
        if at not in self._moves:
            moves = self._sequence[number].moves(situation.channels, stage)
            self._moves[at] = {move.option: move for move in moves}
        move = self._moves[at][option]
        effect = self._effects.of(move.nodes, situation, move.channels)
        assert effect is not None  # Without costs everything fits.
        profile = self._effects.profile(move.nodes, situation)
        return _Part(profile, effect.stride, effect.after, move.stage)


def _spaced(profile: NDArray[np.float64], stride: int) -> NDArray[np.float64]:
    spaced = np.zeros((len(profile) - 1) * stride + 1)
    spaced[::stride] = profile
    return spaced


def _square(magnitude: NDArray[np.float64]) -> int:
    """Side of the smallest centred square of a map that is the product of two such axes."""
    number = len(magnitude)
    # From the middle outwards, one pixel on both sides at a time.
    right = magnitude[number // 2 :]
    left = magnitude[: (number + 1) // 2][::-1]
    both = right + left
    if number % 2:
        both[0] /= 2
    held = np.cumsum(both) / both.sum()
    rings = int(np.searchsorted(held, np.sqrt(ERF_SHARE))) + 1
    return min(number, 2 * rings - number % 2)
