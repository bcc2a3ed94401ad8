"""The search: objective, sampler, experiment, study, and workers, however many.

In goes an experiment; out comes a study of trials, in which a candidate that does not fit never
costs a training. Start at `objective`, the funnel that each candidate passes through, then
`sampler`, then `worker`, which takes trials of a study until the budget is used up.

Public names: `Objective`, `RFSampler`.
"""
