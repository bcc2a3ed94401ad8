"""Names of trial attributes that several modules rely on."""

from __future__ import annotations

#: Name in timm of the baseline that a trial is.
BASELINE = "baseline"
#: A baseline's score.
BASELINE_SCORE = "baseline_score"
#: JSON with the versions, the device and the git state that a trial ran with. With the study's
#: experiment and the trial's seed and architecture it is all that its numbers depend on.
ENVIRONMENT = "environment"
#: Number of the trial of the same candidate that the pruner had stopped; of one that goes on.
PROMOTED_FROM = "promoted_from"
#: Whether batches did not fit into memory and were halved; of trials where they were.
BATCH_HALVED = "batch_halved"
#: Name of the artifact that holds the trained candidate's weights.
WEIGHTS = "weights"
