"""A Gaussian process over what is known of candidates before any of them is tried.

It is scikit-learn's. Its kernel is a sum: over the descriptors a linear one, which carries trends
to where nothing has been tried, and a Matern kernel with a length for each; and a smaller Matern
kernel over the choices, for what descriptors do not tell. Its mean is what was expected before.
"""

from __future__ import annotations

import warnings
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import (
    ConstantKernel,
    DotProduct,
    Kernel,
    Matern,
    WhiteKernel,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Bounds of the lengths over which a score changes, in standard deviations of a descriptor. No
#: length is so short that a candidate tells nothing of its neighbours.
_LENGTHS = (0.3, 30.0)
#: The same for all choices together, where each spans 1.
_CHOICE_LENGTHS = (0.3, 10.0)
#: Tried candidates that are learnt from at most.
_MOST_TRIED = 300
#: By so many standard deviations of the scores a candidate is believed to be better for each
#: standard deviation of what is expected.
_TRUST = 0.5
#: Variance of the scores' noise, in variances of the scores.
_NOISE = (1e-4, 1.0)


class _OnColumns:
    """Makes a kernel look at some of the columns."""

    first: int
    last: int

    def __call__(self, X: Array, Y: Array | None = None, eval_gradient: bool = False) -> Any:  # noqa: N803
        others = None if Y is None else Y[:, self.first : self.last]
        return super().__call__(X[:, self.first : self.last], others, eval_gradient)  # type: ignore[misc]

    def diag(self, X: Array) -> Any:  # noqa: N803
        return super().diag(X[:, self.first : self.last])  # type: ignore[misc]


class _Smooth(_OnColumns, Matern):  # type: ignore[misc]  # scikit-learn has no types
    def __init__(
        self,
        first: int = 0,
        last: int = 1,
        length_scale: Any = 1.0,
        length_scale_bounds: tuple[float, float] = _LENGTHS,
    ) -> None:
        super().__init__(length_scale, length_scale_bounds, nu=2.5)
        self.first = first
        self.last = last


class _Linear(_OnColumns, DotProduct):  # type: ignore[misc]
    def __init__(self, first: int = 0, last: int = 1) -> None:
        super().__init__(0.0, "fixed")
        self.first = first
        self.last = last


class Surrogate:
    """What scores are to expect of candidates, from those that have been tried.

    The first column of a candidate is how good it is expected to be, in standard deviations, 0 if
    nothing is; the others are its descriptors and its choices.

    Args:
        descriptors: How many columns are descriptors.
        choices: How many are choices.
    """

    def __init__(self, descriptors: int, choices: int) -> None:
        self.descriptors = descriptors
        self._kernel = _kernel(descriptors, choices)
        self._fitted_to = 0
        self._level = 0.0
        self._process: Any = None

    def fit(
        self, candidates: Array, scores: Array, pending: Array, rng: np.random.Generator
    ) -> None:
        """Learn from tried candidates; those that are being tried are taken to be as expected.

        Lengths and variances are found anew when a tenth more has been tried. Of many the better
        half of what is looked at are the best, and the rest is drawn.

        Args:
            candidates: What was tried, `(tried, columns)`.
            scores: Their scores, higher is better, `(tried,)`.
            pending: What is being tried, `(pending, columns)`.
            rng: Of the draw.
        """
        tried = len(scores)
        if tried > _MOST_TRIED:
            order = np.argsort(-scores)
            best, rest = np.split(order, [_MOST_TRIED // 2])
            kept = np.concatenate([best, rng.choice(rest, _MOST_TRIED // 2, replace=False)])
            candidates, scores = candidates[kept], scores[kept]
        spread = scores.std()
        values = (scores - scores.mean()) / (spread if spread > 0 else 1.0)
        beyond = values - _believed(candidates)
        self._level = beyond.mean()
        beyond -= self._level
        finds_anew = tried >= 1.1 * self._fitted_to
        self._process = self._learnt(candidates, beyond, finds_anew)
        if finds_anew:
            self._kernel, self._fitted_to = self._process.kernel_, tried
        if len(pending):
            beyond = np.concatenate([beyond, self._process.predict(pending)])
            everything = np.concatenate([candidates, pending])
            self._process = self._learnt(everything, beyond, finds_anew=False)

    def _learnt(self, candidates: Array, beyond: Array, finds_anew: bool) -> Any:
        optimizer = "fmin_l_bfgs_b" if finds_anew and len(beyond) > 1 else None
        process = GaussianProcessRegressor(self._kernel, alpha=1e-8, optimizer=optimizer)
        with warnings.catch_warnings():  # A length at its bound is an answer.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return process.fit(candidates, beyond)

    def predict(self, candidates: Array) -> Array:
        """Expected scores of candidates `(n, columns)`, in deviations from the mean of all."""
        return np.asarray(self._process.predict(candidates)) + self._level + _believed(candidates)

    def improvement(self, candidates: Array) -> Array:
        """Expected improvement on the best of what was tried, of candidates `(n, columns)`."""
        mean, deviation = self._process.predict(candidates, return_std=True)
        # The process's noise is no promise.
        noise = self._process.kernel_.k2.noise_level
        deviation = np.sqrt(np.maximum(deviation**2 - noise, 1e-12))
        tried = self._process.X_train_
        best = (self._process.predict(tried) + _believed(tried)).max()
        over = (mean + _believed(candidates) - best) / deviation
        return np.asarray(deviation * (over * norm.cdf(over) + norm.pdf(over)))


def _believed(candidates: Array) -> Array:
    return _TRUST * candidates[:, 0]


def _kernel(descriptors: int, choices: int) -> Kernel:
    parts: list[Kernel] = []
    last = 1 + descriptors
    if descriptors:
        lengths = np.full(descriptors, 2.0)
        parts.append(ConstantKernel(1.0) * _Smooth(1, last, lengths))
        parts.append(ConstantKernel(1 / descriptors) * _Linear(1, last))
    if choices:
        over = _Smooth(last, last + choices, 1.5, _CHOICE_LENGTHS)
        parts.append(ConstantKernel(0.3 if descriptors else 1.0) * over)
    return reduce(add, parts) + WhiteKernel(0.05, _NOISE)


def spread_out(
    candidates: Array, chosen: Sequence[int], untried: Array, rng: np.random.Generator
) -> int:
    """The number of a candidate that is far from those that were chosen before, at random.

    The first is any; then each is as likely as its squared distance to the nearest chosen one is
    large, as in the seeding of k-means++ (Arthur and Vassilvitskii, SODA 2007).

    Args:
        candidates: All of them, `(n, columns)`.
        chosen: Numbers of those that were chosen.
        untried: Numbers of those that may be.
        rng: Of the draw.
    """
    if not len(chosen):
        return int(rng.choice(untried))
    apart = candidates[untried][:, None] - candidates[list(chosen)][None]
    nearest = (apart**2).sum(axis=-1).min(axis=1)
    total = nearest.sum()
    return int(rng.choice(untried, p=nearest / total if total > 0 else None))
