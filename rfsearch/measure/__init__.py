"""What is measured on a network: its effective receptive field, its latency and its memory.

In go a module and images; out come a `MeasuredERF` or a `Latency`. Start at `erf`: the pixels'
gradients are read (`_read`, `_unit`), cropped to what the unit sees (`_crop`) and averaged
(`_average`).

Public names: `measure_erf`, `MeasuredERF`, `measure_latency`, `Latency`.
"""
