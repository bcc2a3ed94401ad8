"""How a stage begins, and which of its parameters make a difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rfsearch.network.blocks import KINDS

if TYPE_CHECKING:
    from rfsearch.feasible.choices import Params
    from rfsearch.network.stages import BlockKind, Context, Downsampling


class Head(NamedTuple):
    """How a stage begins, and what all of its blocks have."""

    block: BlockKind
    width: int
    stride: int
    downsample: Downsampling
    context: Context
    expansion: int

    def params(self) -> Params:
        """Active parameters."""
        names = active_head_names(self._asdict())
        return {name: value for name, value in self._asdict().items() if name in names}


def active_head_names(params: Params) -> list[str]:
    """Names of the parameters of `Head` that make a difference, given all of them."""
    kind = KINDS[params["block"]]
    return [
        "block",
        "width",
        "stride",
        *(["downsample"] if params["stride"] > 1 else []),
        *(["context"] if kind.has_context else []),
        *(["expansion"] if kind.has_expansion else []),
    ]
