"""Names of trial attributes that several modules rely on."""

from __future__ import annotations

#: Name in timm of the baseline that a trial is.
BASELINE = "baseline"
#: A baseline's score.
BASELINE_SCORE = "baseline_score"
#: JSON with the versions, the device and the git state that a trial ran with. With the study's
#: experiment and the trial's seed and architecture it is all that its numbers depend on.
ENVIRONMENT = "environment"
#: Whether batches did not fit into memory and were halved; of trials where they were.
BATCH_HALVED = "batch_halved"
