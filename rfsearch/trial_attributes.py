"""Names of trial attributes that several modules rely on."""

from __future__ import annotations

#: Name in timm of the baseline that a trial is.
BASELINE = "baseline"
#: A baseline's score.
BASELINE_SCORE = "baseline_score"
