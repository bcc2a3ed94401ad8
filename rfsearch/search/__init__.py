"""The search: objective, sampler, experiment and study.

In goes an experiment; out comes a study of trials, in which a candidate that does not fit never
costs a training. Start at `objective`, the funnel that each candidate passes through, then
`sampler`, then `study`; `stopping` says when a search is over.

Public names: `Objective`, `RFSampler`.
"""
