"""Networks that are trained already: what can be changed of them without touching a weight.

In goes any module; out come the decisions that there are (`space`), a changed copy (`changes`),
the changes that fit an object size (`fit`) and the lines of torch that make them (`_code`). Start
at `changes`.
"""
