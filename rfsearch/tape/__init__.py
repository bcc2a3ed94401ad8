"""The expected squared gradient of any traced module, carried back along a tape of its operations.

In: the operations of one run on tensors without data, one by one (`rfsearch.tape.recorder`). Out:
an `ExpectedERF` of any tensor of it (`rfsearch.tape.tape`). The rules of `rfsearch.field` say what
each operation does to units and gradients. Start reading at `rfsearch.tape.tape`.
"""
