"""What networks are trained for, and training them, briefly or to convergence.

In go a task (data, head, loss, metric and budget) and a network; out come its score after each
epoch and its weights. A brief training is a long one with a small budget: start at `task`, then
`loop`; `config` has all options.

Public names: `ClassificationTask`, `SegmentationTask`, `DetectionTask`, `TrainingConfig`.
"""
