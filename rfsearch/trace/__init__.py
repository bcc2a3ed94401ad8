"""What any `nn.Module` sees: theoretical receptive fields by following its operations.

In goes a module or a name of timm's; out come the interval, stride and layers of each output.
Start at `trace`; `_operations` is the table of operations that can be followed, each with its
handler. `probe` is the slow and independent way, with NaN.

A trace also keeps a tape (`rfsearch.tape`), which the expected ERF of any tensor is read off.

Public names: `trace_receptive_field`, `expected_erf`, `TracedModel`, `TracedMap`,
`probe_receptive_field`.
"""
