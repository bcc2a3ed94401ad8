"""The arithmetic of receptive fields: an algebra over windows, and its readings. No torch.

In goes an `Expression` (what an architecture lowers to); out come the theoretical receptive field,
the expected ERF, the coverage, and the cost, all in closed form. Start at `receptive_field` for
the algebra along one axis, then `expression` for the language, then `expected_erf`.

Public names: `ReceptiveField`, `window`, `stack`, `ExpectedERF`.
"""
