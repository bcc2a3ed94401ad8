"""The expected ERF size of a candidate as its profile along an axis tells it, quickly.

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
    """What one decision of a path adds along each axis, and what comes behind."""

    profiles: tuple[NDArray[np.float64], ...]
    strides: tuple[int, ...]
    after: Situation
    stage: OpenStage | None


class AxisProfiles:
    """Looks up parts of candidates, computing each once.

    Args:
        candidates: Those whose paths are asked for; their necks do not upsample.
    """

    def __init__(self, candidates: Candidates) -> None:
        self._sequence = decisions(candidates)
        self._axes = candidates.alike
        self._effects = Effects(erf=True, cost=False, saved=False, channels=True, axes=self._axes)
        self._start = self._effects.start(3, ())
        self._moves: dict[tuple[int, int, OpenStage | None], dict[int, Move]] = {}
        self._parts: dict[tuple[int, int, Situation, OpenStage | None], _Part] = {}

    def sizes(self, path: Path) -> tuple[int, ...] | None:
        """Sides in px of the centred box with 95 % of the |gradient|; None if it is large.

        Args:
            path: The option taken in each decision.

        Returns:
            Those along the axes that the space tells apart.
        """
        profiles, strides = [np.ones(1)] * len(self._axes), [1] * len(self._axes)
        situation: Situation = self._start
        stage: OpenStage | None = None
        for number, option in enumerate(path):
            key = (number, option, situation, stage)
            if key not in self._parts:
                self._parts[key] = self._part(*key)
            part = self._parts[key]
            for axis, (added, step) in enumerate(zip(part.profiles, part.strides, strict=True)):
                profiles[axis] = np.convolve(profiles[axis], _spaced(added, strides[axis]))
                strides[axis] *= step
            if max(map(len, profiles)) > LARGEST_EXACT_SIZE:
                return None
            situation, stage = part.after, part.stage
        share = ERF_SHARE ** (1 / sum(self._axes))
        return tuple(_side(np.sqrt(profile), share) for profile in profiles)

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
        profiles = tuple(
            self._effects.profile(move.nodes, situation, axis) for axis in range(len(self._axes))
        )
        return _Part(profiles, effect.stride, effect.after, move.stage)


def _spaced(profile: NDArray[np.float64], stride: int) -> NDArray[np.float64]:
    spaced = np.zeros((len(profile) - 1) * stride + 1)
    spaced[::stride] = profile
    return spaced


def _side(magnitude: NDArray[np.float64], share: float) -> int:
    """Side of the smallest centred interval with a share of an axis of a product of axes."""
    number = len(magnitude)
    # From the middle outwards, one pixel on both sides at a time.
    right = magnitude[number // 2 :]
    left = magnitude[: (number + 1) // 2][::-1]
    both = right + left
    if number % 2:
        both[0] /= 2
    held = np.cumsum(both) / both.sum()
    rings = int(np.searchsorted(held, share)) + 1
    return min(number, 2 * rings - number % 2)
