"""Averaging the gradients of image after image into one effective receptive field."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from rfsearch.field.erf_map import ErfMap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rfsearch.measure.unit import Unit

#: Of the standard normal distribution.
_TENTH_PERCENTILE = -1.2816


@dataclass
class Average:
    """A running mean over images that weigh alike, whatever the scale of their gradients.

    Attributes:
        unit: The unit whose gradients these are.
        sizes: ERF size of each image in px, between pixels.
    """

    unit: Unit
    sizes: list[float] = field(default_factory=list)
    _magnitude: NDArray[np.float64] | float = 0.0
    _power: NDArray[np.float64] | float = 0.0

    def add(self, gradients: NDArray[np.float64]) -> None:
        """Add the gradients of some images, `(images, channels, *input_size)`.

        An image without a gradient does not count.
        """
        for gradient in gradients:
            magnitude = np.abs(gradient).sum(axis=0)
            total = magnitude.sum()
            if not np.isfinite(total) or total <= 0:
                continue
            # Scaled before it is squared, which could underflow.
            power = np.square(gradient / np.abs(gradient).max()).sum(axis=0)
            one = self._map(magnitude / total, power / power.sum())
            self.sizes.append(one.side_between_pixels())
            self._magnitude = self._magnitude + one.map
            self._power = self._power + one.power

    @property
    def mean(self) -> ErfMap:
        """The mean over the images so far.

        Raises:
            ValueError: If no image had a gradient.
        """
        if not self.sizes:
            raise ValueError(
                "No gradient reaches the input: every path to the unit is switched off."
            )
        count = len(self.sizes)
        return self._map(np.asarray(self._magnitude / count), np.asarray(self._power / count))

    @property
    def standard_error(self) -> float:
        """Standard error of the ERF size in px; NaN for fewer than two images."""
        if len(self.sizes) < 2:
            return float("nan")
        return float(np.std(self.sizes, ddof=1) / math.sqrt(len(self.sizes)))

    @property
    def standard_error_bound(self) -> float:
        """What the standard error is below, with 90 % confidence, in px; NaN for one image.

        A spread of few images may be small by luck: the bound divides by the tenth percentile of
        a chi-squared distribution (in Wilson and Hilferty's approximation, PNAS 1931) in place of
        its mean.
        """
        freedom = len(self.sizes) - 1
        if freedom < 1:
            return float("nan")
        spread = 2 / (9 * freedom)
        percentile = (1 - spread + _TENTH_PERCENTILE * math.sqrt(spread)) ** 3
        return self.standard_error / math.sqrt(percentile)

    def _map(self, magnitude: NDArray[np.float64], power: NDArray[np.float64]) -> ErfMap:
        return ErfMap(magnitude, power, self.unit.center, self.unit.theoretical_size)
