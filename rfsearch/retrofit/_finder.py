"""Finding what can be decided of a trained network: each choice is tried on a copy without data.

Windows are told from the trace: which of them reduce the resolution, which come after one that
does, and which share a resolution. So it makes no difference how a network is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import groupby
from math import gcd
from typing import TYPE_CHECKING, Any

from torch import nn

from rfsearch.basics.axes import by_x
from rfsearch.retrofit._decisions import Decisions, Option, plain
from rfsearch.retrofit._windows import Sides, Window, window_of
from rfsearch.retrofit.changes import changed, why_not
from rfsearch.trace.trace import trace_receptive_field

if TYPE_CHECKING:
    from rfsearch.models.resolved import ResolvedModel
    from rfsearch.retrofit.changes import Changes
    from rfsearch.trace.result import TracedModel

#: Values of what is multiplied; the first is the network as given.
DILATIONS = (1, 2, 3)
SCALES = (1.0, 1.5, 2.0, 3.0)
GIVEN = "as given"
#: Input pixels between neighbouring units along each axis.
Jumps = tuple[Fraction, ...]


def decisions_of(model: ResolvedModel, granularity: str) -> Decisions:
    """Find the decisions of a network.

    Args:
        model: The network.
        granularity: `"stage"`: layers that follow each other at one resolution share a dilation.
            `"layer"`: each has one of its own.

    Raises:
        ValueError: If the network cannot be traced.
    """
    return _Finder(model, granularity).decisions


class _Finder:
    """Tries what can be changed of a network.

    Attributes:
        decisions: What was found.
    """

    def __init__(self, model: ResolvedModel, granularity: str) -> None:
        self._model, self._twin = model, model.twin()
        self._modules = dict(self._twin.named_modules())
        traced = trace_receptive_field(model, model.input_size)
        self._kinds, self._jumps = _kinds(traced), _jumps(traced)
        windows = {name: self._window(name) for name in self._jumps}
        self.decisions = Decisions(
            windows={name: window for name, window in windows.items() if window is not None}
        )
        self._name_others(traced)
        groups = self._groups()
        for group in groups:
            self._add_strides(group)
        for run in self._runs(granularity):
            self._add_dilation(run)
        if groups:
            self._add_skip(groups[-1])
        self._add_scale()

    # -- what there is -----------------------------------------------------------------------

    def _window(self, name: str) -> Window | None:
        window = window_of(self._modules[name]) if name in self._modules else None
        return window if window and len(window.stride) == self._model.num_axes else None

    def _before(self, name: str) -> Jumps:
        """How far apart the units of a layer's input lie."""
        pairs = zip(self._jumps[name], self.decisions.windows[name].stride, strict=True)
        return tuple(jump / stride for jump, stride in pairs)

    def _name_others(self, traced: TracedModel) -> None:
        """Name what reduces the resolution and is no window that can be changed."""
        coarsest = [Fraction(1)] * self._model.num_axes
        for name, jumps in self._jumps.items():
            given = self._before(name) if name in self.decisions.windows else jumps
            if any(jump > most for jump, most in zip(given, coarsest, strict=True)):
                kind = type(self._modules.get(name.partition("[")[0])).__name__
                where = "before it" if name in self.decisions.windows else f"in it ({kind})"
                self.decisions.fixed[name or "(model)"] = (
                    f"what reduces the resolution to {_px(given)} {where} has no stride to change"
                )
            coarsest = [max(pair) for pair in zip(jumps, coarsest, strict=True)]

    def _groups(self) -> list[list[str]]:
        """Layers that reduce the same resolution to the same other one, the finest first."""
        groups: dict[tuple[Jumps, Jumps], list[str]] = {}
        for name, window in self.decisions.windows.items():
            if max(window.stride) > 1:
                groups.setdefault((self._before(name), self._jumps[name]), []).append(name)
        return [groups[key] for key in sorted(groups, key=lambda key: (key[1], key[0]))]

    def _runs(self, granularity: str) -> Iterator[list[str]]:
        """Convolutions that follow each other at one resolution, of more than one tap."""
        names = [
            name
            for name, window in self.decisions.windows.items()
            if window.reaches and max(window.stride) == 1 and window.kind == "convolution"
        ]
        if granularity == "layer":
            yield from ([name] for name in names)
        else:
            yield from (list(run) for _, run in groupby(names, key=self._jumps.__getitem__))

    # -- what can be changed -----------------------------------------------------------------

    def _add_strides(self, group: list[str]) -> None:
        windows = self.decisions.windows
        given = windows[group[0]].stride
        options: dict[Any, Option] = {GIVEN: Option()}
        poolings = [name for name in group if windows[name].kind != "convolution"]
        for stride in _smaller(given):
            reduced = {name: {"stride": plain(stride)} for name in group}
            without = reduced | {name: {"skip": True} for name in poolings}
            is_off = max(stride) == 1 and len(poolings) == len(group)
            label = f"stride {_text(stride)}"
            tried = [(label, reduced)]
            if max(stride) == 1 and poolings:
                tried.append(("off" if is_off else label, without))
            for value, changes in tried:
                if value not in options:
                    options |= self._opened(value, group, changes)
            if label in options:  # With its poolings off, if not with a stride of one.
                self.decisions.fixed.pop(group[0], None)
        if len(options) > 1:
            self.decisions.options[f"{group[0]}.stride"] = options

    def _opened(self, value: str, group: list[str], changes: Changes) -> dict[Any, Option]:
        """A smaller stride, and the same with what follows dilated; nothing if it breaks."""
        traced = self._traced(group[0], value, changes)
        if traced is None:
            return {}
        dilated = self._following(group, traced)
        options = {value: Option(changes)}
        if dilated and value != "off":
            option = Option(changes, dilated)
            name = f"{value}, dilated"
            if self._keep_shape(dilated) or self._runs_with(option, group[0], name):
                options[name] = option
        return options

    def _following(self, group: Sequence[str], traced: TracedModel) -> dict[str, Sides]:
        """By how much the units of the input of each later layer came nearer to each other."""
        after, found = _jumps(traced), {}
        for name, window in self.decisions.windows.items():
            if name in group or name not in after or not window.reaches:
                continue
            pairs = zip(self._jumps[name], after[name], strict=True)
            factors = tuple(before / now for before, now in pairs)
            by = window.where_it_reaches(tuple(map(int, factors)))
            is_whole = all(factor.denominator == 1 for factor in factors)
            if is_whole and max(by) > 1 and window.can_be_dilated(by):
                found[name] = by
        return found

    def _add_dilation(self, run: list[str]) -> None:
        options: dict[Any, Option] = {}
        for factor in DILATIONS:
            by = (factor,) * self._model.num_axes
            windows = {name: self.decisions.windows[name] for name in run}
            option = Option(
                dilated={name: window.where_it_reaches(by) for name, window in windows.items()}
            )
            if (
                factor == 1
                or self._keep_shape(run)
                or self._runs_with(option, run[0], f"dilation {factor}")
            ):
                options[factor] = option
        if len(options) > 1:
            self.decisions.options[f"{run[0]}.dilation"] = options

    def _add_skip(self, group: list[str]) -> None:
        """Leave out all that runs at the coarsest resolution."""
        windows = self.decisions.windows
        coarsest, ran = self._jumps[group[0]], list(self._jumps)
        later = [n for n in ran[ran.index(group[0]) :] if self._jumps[n] == coarsest]
        last = {name for name in later if name in windows}
        stages = dict.fromkeys(self._whole(name, last) for name in later if name in last)
        first = next(iter(stages))
        if first in windows or next(iter(windows)) in last:
            return  # It is no stage but a layer; or nothing would be left.
        inside = tuple(f"{stage}." for stage in stages)
        norms = [
            name
            for name in later
            if name not in stages and not name.startswith(inside) and self._is_sized(name)
        ]
        option = Option({name: {"skip": True} for name in (*stages, *norms)})
        if self._traced(first, "skip", option.changes) is not None:
            self.decisions.options[f"{first}.skip"] = {False: Option(), True: option}

    def _is_sized(self, name: str) -> bool:
        """Whether a module, no classifier, has weights or statistics for so many channels."""
        module = self._modules.get(name)
        if module is None or isinstance(module, nn.Linear):
            return False
        return bool([*module.parameters(recurse=False), *module.buffers(recurse=False)])

    def _whole(self, name: str, among: set[str]) -> str:
        """The largest module around a layer that has no windows of several taps beside some."""
        found, outer = name, name
        while outer := outer.rpartition(".")[0]:
            inside = {
                one
                for one, window in self.decisions.windows.items()
                if one.startswith(f"{outer}.") and window.reaches
            }
            if inside <= among:
                found = outer
        return found

    def _add_scale(self) -> None:
        """Enlarge what the first layer is given."""
        first = next(iter(self.decisions.windows), None)
        if first is None or set(self._before(first)) != {1}:
            return
        options = {SCALES[0]: Option()}
        for scale in SCALES[1:]:
            option = Option({first: {"scale": scale}})
            if self._runs_with(option, first, f"scale {scale:g}"):
                options[scale] = option
        if len(options) > 1:
            self.decisions.options[f"{first}.scale"] = options

    # -- trying ------------------------------------------------------------------------------

    def _traced(self, name: str, value: str, changes: Changes) -> TracedModel | None:
        """The trace of a changed network; None, and the reason noted, if that breaks it."""
        reason = why_not(self._model, self._twin, changes)
        if reason is None:
            try:
                with changed(self._twin, changes):
                    traced = trace_receptive_field(
                        self._model.over(self._twin), self._model.input_size
                    )
            except ValueError as error:
                reason = str(error)
            else:
                kinds = _kinds(traced)
                # A single output with other channels is one of features, for another head.
                if kinds == self._kinds or (len(kinds) == 1 and kinds[0][0] == self._kinds[0][0]):
                    return traced
                reason = "the outputs would have other channels"
        self.decisions.fixed.setdefault(name, f"{value}: {reason}")
        return None

    def _runs_with(self, option: Option, name: str, value: str) -> bool:
        """Whether the network runs with a choice; else the reason is noted."""
        decisions = Decisions({"": {True: option}}, self.decisions.windows)
        reason = why_not(self._model, self._twin, decisions.changes({"": True}))
        if reason is not None:
            self.decisions.fixed.setdefault(name, f"{value}: {reason}")
        return reason is None

    def _keep_shape(self, names: Any) -> bool:
        return all(self.decisions.windows[name].keeps_shape for name in names)


def _jumps(traced: TracedModel) -> dict[str, Jumps]:
    """How far apart the units of each layer lie, where that is the same whenever it runs."""
    table, columns = traced.layers, [f"{axis}_stride" for axis in traced.axes]
    if not set(columns) <= set(table):
        return {}
    found: dict[str, Jumps | None] = {}
    for name, *jumps in table[["name", *columns]].dropna().itertuples(index=False):
        own = tuple(map(Fraction, jumps))
        found[name] = own if found.get(name, own) == own else None
    return {name: jumps for name, jumps in found.items() if jumps is not None}


def _kinds(traced: TracedModel) -> list[tuple[int, int]]:
    """Dimensions and channels of each output."""
    axes = len(traced.axes)
    shapes = (one.shape for one in traced.outputs.values())
    return [(len(shape), shape[1] if len(shape) == 2 + axes else shape[-1]) for shape in shapes]


def _smaller(stride: Sides) -> list[Sides]:
    """Strides to which a stride can be reduced, the largest first."""
    common = gcd(*(one for one in stride if one > 1))
    steps = [step for step in range(2, common + 1) if common % step == 0]
    reduced = [tuple(one // step if one > 1 else 1 for one in stride) for step in steps]
    return list(dict.fromkeys([*reduced, (1,) * len(stride)]))


def _text(sides: Sides) -> str:
    return by_x(sides if len(set(sides)) > 1 else sides[:1])


def _px(jumps: Jumps) -> str:
    return f"{by_x(dict.fromkeys(jumps))} px"
