"""What may be proposed and what fits: search spaces, gates, and the feasible set.

In go choices and an `RFConstraint`; out come candidates, drawn, counted, or the nearest that
fits, without making any of the others. Start at `space`, then `constraint` for the gates that
reject a candidate, then `feasible` for the set, whose graph is `_feasible_graph`.

Public names: `SearchSpace`, `ModuleSpace`, `StemChoices`, `StageChoices`, `NeckChoices`,
`RFConstraint`, `Budget`.
"""
