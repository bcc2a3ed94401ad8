"""Tables, statistics and figures from trials. No torch.

In goes a study; out come tidy DataFrames, correlations with their intervals, and figures. Start
at `analysis`, which makes one row of each trial.

Public names: `trials_dataframe`, `levels_dataframe`, `erf_correlations`, `choice_importances`,
`gate_savings`, `compare_studies`, `pareto_front`, `rank_correlation`, `trend`.
"""
