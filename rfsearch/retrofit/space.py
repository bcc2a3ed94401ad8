"""Search spaces of changes to a trained network, none of which touches a weight."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from rfsearch.models.resolve import resolve_model
from rfsearch.retrofit._code import lines_of
from rfsearch.retrofit._finder import decisions_of
from rfsearch.retrofit.changes import apply, changed
from rfsearch.space.module_space import ModuleSpace
from rfsearch.trace.trace import UntracedError, trace_receptive_field, weight_powers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from rfsearch.basics.axes import InputSize
    from rfsearch.feasible.choices import Params
    from rfsearch.models.resolve import Model
    from rfsearch.retrofit.changes import Changes
    from rfsearch.trace.result import TracedModel


class RetrofitSpace(ModuleSpace):
    """All networks that a trained one becomes when strides, dilations and the like are changed.

    Every network of the space has the weights of the trained one. Offered is what was tried, on a
    copy without data, and leaves a network that runs: for each resolution a smaller stride, with
    what follows dilated so that the field stays, or not; a pooling off; a dilation of the layers
    that follow each other at one resolution, or of each layer; the last stage left out; the scale
    of what the first layer is given. The first choice of each is the network as it is given.

    Args:
        model: The trained network: any module, or the name of a timm model.
        input_size: Side or sides in px of the images that it is given. `None` means the size that
            it states, or 224.
        granularity: `"stage"` or `"layer"`: what shares a dilation.
        initialisation: Of the expected ERF: `"fan_in"`, or `"module"` for the mean squares of the
            weights that the network has, as for `rfsearch.expected_erf`.

    Attributes:
        fixed: Why, by layer, for what reduces the resolution and cannot be changed.

    Raises:
        ValueError: If there is no such model, it cannot be traced, or nothing of it can be
            changed; it names what reduces the resolution, and why that is fixed.
    """

    def __init__(
        self,
        model: Model,
        input_size: InputSize | None = None,
        granularity: Literal["stage", "layer"] = "stage",
        *,
        initialisation: Literal["fan_in", "module"] = "fan_in",
    ) -> None:
        if granularity not in ("stage", "layer"):
            raise ValueError(
                f"`granularity` must be one of stage, layer, but got {granularity!r}."
            )
        self.model = resolve_model(model, input_size)
        self._twin = self.model.twin()
        self._decisions = decisions_of(self.model, granularity)
        self._powers = weight_powers(self.model) if initialisation == "module" else None
        self.fixed = dict(self._decisions.fixed)
        if not self._decisions.options:
            named = "; ".join(f"`{name}`: {why}" for name, why in self.fixed.items())
            raise ValueError(
                f"Nothing of {self.model.name} can be changed without its weights"
                f"{f' ({named})' if named else ''}."
            )
        choices = {name: list(options) for name, options in self._decisions.options.items()}
        super().__init__(self._build, choices, self.model.input_size)

    @property
    def given(self) -> Params:
        """The parameters of the network as it is given."""
        return {name: values[0] for name, values in self.choices().items()}

    def changes(self, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """What parameters change, by layer, as `rfsearch.retrofit` takes it."""
        return self._decisions.changes(params)

    def code(self, changes: Changes) -> list[str]:
        """Lines of torch that make changes of a network that is called `model`."""
        return lines_of(self._twin, changes)

    def _build(self, **params: Any) -> nn.Module:
        module = self.model.copy()
        apply(module, self.changes(params))
        return module

    def candidate(self, params: Params) -> TracedModel | None:
        """The trace of the network with some parameters; None where its layers do not fit."""
        with suppress(UntracedError), changed(self._twin, self.changes(params)):
            model = self.model.over(self._twin)
            traced = trace_receptive_field(model, self.model.input_size)
            return traced if self._powers is None else traced.with_weights(self._powers)
        return None
