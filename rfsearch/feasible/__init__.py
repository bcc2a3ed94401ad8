"""Feasible sets of discrete spaces: what fits, counted, drawn, looked up, moved to.

In go parameters with finitely many values and what fits of them; out comes a graph whose paths are
the members, and a sampler that proposes nothing else. It knows nothing of networks. Start at
`fold`, then `path_set` for what is asked of a graph, then `sampler`.

Public names: `Fold`, `FeasibleSampler`.
"""
