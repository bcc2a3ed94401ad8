"""The profile of an effective receptive field along its centre row, and how Gaussian it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class GaussianFit(NamedTuple):
    """A Gaussian fitted to a row by least squares, centred on the receptive field.

    Attributes:
        sigma: Its standard deviation in px.
        r_squared: Share of the row's variance that it explains: 1 for a Gaussian.
    """

    sigma: float
    r_squared: float


@dataclass(frozen=True, eq=False)
class RowProfile:
    """Mean |gradient| of the pixels of one row, `(width,)`.

    Attributes:
        offsets: Distances of the pixels from the receptive field's centre, in px.
        values: Their |gradient|, summing to 1.
    """

    offsets: NDArray[np.float64]
    values: NDArray[np.float64]

    @property
    def sigma(self) -> float:
        """RMS distance from the centre, in px."""
        return float(np.sqrt(self.values @ self.offsets**2))

    @property
    def kurtosis(self) -> float:
        """Fourth moment over the squared second, about the centre.

        It is 3 for a Gaussian and 1.8 for a box. Above 3 a row has a sharp peak and long tails.
        NaN for a single pixel.
        """
        fourth, variance = self.values @ self.offsets**4, self.values @ self.offsets**2
        return float(fourth / variance**2) if variance else float("nan")

    @cached_property
    def gaussian(self) -> GaussianFit:
        """The Gaussian of any height and width that is nearest to the row.

        Raises:
            ValueError: If the row has fewer than three pixels with a gradient.
        """
        from scipy.optimize import minimize_scalar

        if np.count_nonzero(self.values) < 3:
            raise ValueError("A Gaussian needs a row of at least 3 pixels with a gradient.")
        spread = float(((self.values - self.values.mean()) ** 2).sum())
        # The best height follows from the width, so that one number is searched, as a logarithm.
        bounds = (np.log(0.2), np.log(10 * self.sigma + 1))
        found = minimize_scalar(
            lambda log_sigma: self._misfit(np.exp(log_sigma)), bounds=bounds, method="bounded"
        )
        explained = 1 - float(found.fun) / spread if spread else 0.0
        return GaussianFit(float(np.exp(found.x)), explained)

    def _misfit(self, sigma: float) -> float:
        """Sum of squared differences from the Gaussian of this width and the best height."""
        curve = np.exp(-((self.offsets / sigma) ** 2) / 2)
        height = (curve @ self.values) / (curve @ curve)
        return float(((self.values - height * curve) ** 2).sum())
