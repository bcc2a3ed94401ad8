"""What candidates are trained for, and training them, briefly or to convergence.

In go a task (data, head, loss, metric) and a network; out come its score after each epoch and its
weights. Start at `tasks`, then `training`.

Public names: `ClassificationTask`, `SegmentationTask`, `DetectionTask`, `TrainingConfig`.
"""
