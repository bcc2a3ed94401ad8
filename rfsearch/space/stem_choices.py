"""What a search space offers for a stem, counted and numbered exactly."""

from __future__ import annotations

from functools import cached_property
from itertools import product
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from rfsearch.basics.limits import check_combinations
from rfsearch.basics.sides import as_sides, as_text
from rfsearch.basics.validation import FrozenData
from rfsearch.feasible.choices import Params
from rfsearch.network.stages import KernelSize
from rfsearch.network.stems import Padding, Stem, StemKind, StemPool, Stride, Width


def _as_tuple(value: Any) -> Any:
    """One value is short for a list of one."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    repeated = [item for i, item in enumerate(values) if item in values[:i]]
    if repeated:
        raise ValueError(f"choices must differ, but got {repeated[0]!r} twice.")
    return values


def _as_sided(value: Any) -> Any:
    """The same of numbers along axes: one number is that of all axes, `[1, 7]` inside a list of
    choices are those of each, and so is `"1x7"`.
    """
    return _as_tuple([as_sides(item) for item in _as_tuple(value)])


ONE_OR_MORE = (Field(strict=False, min_length=1), BeforeValidator(_as_tuple))
ANY_NUMBER = (Field(strict=False), BeforeValidator(_as_tuple))
#: The same for numbers that may differ between axes.
SIDED = (Field(strict=False, min_length=1), BeforeValidator(_as_sided))
KernelSizes = Annotated[tuple[KernelSize, ...], *SIDED]
Strides = Annotated[tuple[Stride, ...], *SIDED]
Widths = Annotated[tuple[Width, ...], *ONE_OR_MORE]
StemKinds = Annotated[tuple[StemKind, ...], *ONE_OR_MORE]
StemPools = Annotated[tuple[StemPool, ...], *ONE_OR_MORE]


#: Fields of a stem that are chosen.
_CHOSEN = ("kind", "kernel_size", "stride", "width", "pool")


class StemChoices(FrozenData):
    """Choices for the stem; each field of `Stem` may be one value or a list of them.

    Patches have neither a kernel size nor a pooling of their own. `padding` is one value, no
    choice. In a list of kernel sizes or strides `[1, 7]` is one choice, `(height, width)`; the
    parameter's value is text then, `"1x7"`.
    """

    kind: StemKinds = ("conv",)
    kernel_size: KernelSizes = (3,)
    stride: Strides
    width: Widths
    pool: StemPools = ("none",)
    padding: Padding = "centred"

    @model_validator(mode="after")
    def _can_be_listed(self) -> Self:
        check_combinations("the choices", *self.values().values())
        return self

    def values(self) -> dict[str, tuple[Any, ...]]:
        """The choices by parameter name, inactive ones included."""
        return {name: tuple(map(as_text, getattr(self, name))) for name in _CHOSEN}

    @cached_property
    def outcomes(self) -> list[Stem]:
        """All distinct stems, by their numbers."""
        combinations = product(*self.values().values())
        named = (dict(zip(self.values(), combo, strict=True)) for combo in combinations)
        return list(dict.fromkeys(self.from_params(params) for params in named))

    @property
    def size(self) -> int:
        """How many distinct stems there are."""
        return len(self.outcomes)

    def unrank(self, index: int) -> Stem:
        """The stem with this number, from 0."""
        return self.outcomes[index]

    def from_params(self, params: Params) -> Stem:
        """The stem with these parameters; inactive ones are ignored."""
        if params["kind"] == "patch":
            params = params | {"kernel_size": params["stride"], "pool": "none"}
        return Stem(**params, padding=self.padding)

    def to_params(self, stem: Stem) -> Params:
        """Parameters of a stem; inactive ones get their first choice."""
        firsts = {name: options[0] for name, options in self.values().items()}
        return firsts | self.active_params(stem)

    def active_params(self, stem: Stem) -> Params:
        """The parameters that make a difference to a stem."""
        params = {name: as_text(getattr(stem, name)) for name in _CHOSEN}
        return {name: params[name] for name in self.active_names(params)}

    def active_names(self, params: Params) -> list[str]:
        """Names of the parameters that make a difference, given all of them."""
        if params["kind"] == "patch":
            return ["kind", "stride", "width"]
        return list(_CHOSEN)
