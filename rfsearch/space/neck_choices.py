"""What a search space offers for the neck, counted and numbered exactly."""

from __future__ import annotations

from functools import cached_property
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, TypeAdapter, model_validator

from rfsearch.basics.limits import check_combinations
from rfsearch.basics.validation import FrozenData
from rfsearch.feasible.choices import Params
from rfsearch.network.necks import (
    ASPP,
    FPN,
    AnyNeck,
    Channels,
    Merge,
    NumLevels,
    Rates,
    UNet,
    Widths,
)
from rfsearch.space.stem_choices import ONE_OR_MORE

NeckKind = Literal["none", "aspp", "unet", "fpn", "merge"]


def _as_lists(value: Any) -> Any:
    """One list of numbers is short for a list of one such list."""
    if isinstance(value, list | tuple) and all(isinstance(item, int) for item in value):
        value = (tuple(value),)
    return value


_LISTS = (*ONE_OR_MORE, BeforeValidator(_as_lists))

#: Fields of each kind of neck, in the order of its parameters.
_FIELDS: dict[str, tuple[str, ...]] = {
    "none": (),
    **{
        str(neck.model_fields["kind"].default): tuple(n for n in neck.model_fields if n != "kind")
        for neck in (ASPP, UNet, FPN, Merge)
    },
}
_NECK: TypeAdapter[AnyNeck] = TypeAdapter(AnyNeck)


class NeckChoices(FrozenData):
    """Choices for the neck; each field may be one value or a list of them.

    A field must be given where a kind on offer has it, `image_pooling` excepted, and nowhere else.
    As a parameter, a list of numbers is text, such as `"6,12,18"`.

    Attributes:
        kind: Kinds of neck; `"none"` is none.
        rates: Lists of dilations, for `"aspp"`.
        width: Output channels, for `"aspp"`, `"fpn"` and `"merge"`.
        image_pooling: Whether the mean over the map is a branch, for `"aspp"`.
        widths: Lists of the blocks' output channels, the coarsest first, for `"unet"`.
        num_levels: Numbers of output maps, for `"fpn"`.
    """

    kind: Annotated[tuple[NeckKind, ...], *ONE_OR_MORE]
    rates: Annotated[tuple[Rates, ...], *_LISTS] | None = None
    width: Annotated[tuple[Channels, ...], *ONE_OR_MORE] | None = None
    image_pooling: Annotated[tuple[bool, ...], *ONE_OR_MORE] | None = None
    widths: Annotated[tuple[Widths, ...], *_LISTS] | None = None
    num_levels: Annotated[tuple[NumLevels, ...], *ONE_OR_MORE] | None = None

    @model_validator(mode="after")
    def _has_what_its_kinds_need(self) -> Self:
        for kind in self.kind:
            options = (getattr(self, name) or (None,) for name in _FIELDS[kind])
            check_combinations(f"{kind!r}", *options)
        for name in type(self).model_fields:
            kinds = [kind for kind, fields in _FIELDS.items() if name in fields]
            offered = [kind for kind in self.kind if kind in kinds]
            given = getattr(self, name)
            if offered and given is None and name != "image_pooling":
                raise ValueError(f"`{name}` must be given for {offered[0]!r}.")
            if kinds and not offered and given is not None:
                raise ValueError(
                    f"`{name}` must be left out without {' or '.join(map(repr, kinds))}, but got "
                    f"{list(given)}."
                )
        return self

    def values(self) -> dict[str, tuple[Any, ...]]:
        """The choices by parameter name."""
        names = dict.fromkeys(name for kind in self.kind for name in _FIELDS[kind])
        return {"kind": self.kind} | {name: tuple(self._texts(name)) for name in names}

    def _texts(self, name: str) -> dict[Any, Any]:
        """Values of a field by those of its parameter."""
        options = getattr(self, name) or (False,)  # Of `image_pooling`.
        return {_as_parameter(option): option for option in options}

    @cached_property
    def outcomes(self) -> list[AnyNeck | None]:
        """All distinct necks."""
        values = self.values()
        return [
            self.from_params({"kind": kind, **dict(zip(_FIELDS[kind], combo, strict=True))})
            for kind in self.kind
            for combo in product(*(values[name] for name in _FIELDS[kind]))
        ]

    @property
    def size(self) -> int:
        """How many distinct necks there are."""
        return len(self.outcomes)

    def unrank(self, index: int) -> AnyNeck | None:
        """The neck with this number, from 0."""
        return self.outcomes[index]

    def from_params(self, params: Params) -> AnyNeck | None:
        """The neck with these parameters; inactive ones are ignored."""
        kind = params["kind"]
        if kind == "none":
            return None
        chosen = {name: self._texts(name)[params[name]] for name in _FIELDS[kind]}
        return _NECK.validate_python({"kind": kind, **chosen})

    def to_params(self, neck: AnyNeck | None) -> Params:
        """Parameters of a neck; inactive ones get their first choice."""
        firsts = {name: options[0] for name, options in self.values().items()}
        return firsts | self.active_params(neck)

    def active_params(self, neck: AnyNeck | None) -> Params:
        """The parameters that make a difference to a neck."""
        if neck is None:
            return {"kind": "none"}
        fields = {name: _as_parameter(getattr(neck, name)) for name in _FIELDS[neck.kind]}
        return {"kind": neck.kind} | fields

    def active_names(self, params: Params) -> list[str]:
        """Names of the parameters that make a difference, given all of them."""
        return ["kind", *_FIELDS[params["kind"]]]


def _as_parameter(value: Any) -> Any:
    """What stands for a value in a study: Optuna stores no lists."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else value
