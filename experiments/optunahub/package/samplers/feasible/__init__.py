"""Samplers that propose only what fits; see README.md."""

from rfsearch import FeasibleSampler, Fold

__all__ = ["FeasibleSampler", "Fold"]
