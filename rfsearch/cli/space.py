"""`rfsearch space`: what a search space reaches, and how much of it fits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rfsearch.cli._errors import user_mistakes
from rfsearch.cli._models import parse_target

if TYPE_CHECKING:
    import numpy as np

    from rfsearch.space.constraint import RFConstraint
    from rfsearch.space.feasible import FeasibleSet
    from rfsearch.space.space import SearchSpace


def space(
    file: Annotated[str, typer.Argument(help="A space's TOML file, or a shipped space's name.")],
    target: Annotated[
        str | None, typer.Option(help="Smallest and largest object in px, as 24:96.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the sample that the expected ERF needs.")
    ] = 0,
) -> None:
    """Show a search space: its size, the receptive fields it reaches, how much of it fits."""
    with user_mistakes():
        from rfsearch.space.constraint import RFConstraint
        from rfsearch.space.remedies import require_feasible
        from rfsearch.space.space import SearchSpace

        loaded = SearchSpace.load(file)
        constraint = RFConstraint(parse_target(target)) if target is not None else None
        _print_space(file, loaded)
        if constraint:
            require_feasible(loaded, constraint)
    if constraint:
        _print_feasible(loaded, constraint, seed)


def _print_space(name: str, loaded: SearchSpace) -> None:
    from rfsearch.analysis.charts import size_chart
    from rfsearch.basics.axes import AXIS_NAMES
    from rfsearch.space.constraint import RFConstraint

    everything = loaded.feasible(RFConstraint(theoretical=None, effective=None))
    apart: tuple[str | None, ...] = (None,) if len(loaded.alike) == 1 else AXIS_NAMES[loaded.axes]
    typer.echo(f"space           {name}")
    typer.echo(f"architectures   {loaded.size:,}")
    typer.echo(f"parameters      {len(loaded.distributions())}")
    # What a neck that upsamples adds differs from unit to unit and is not counted.
    of_what = " (of the last stage, or the coarsest level)" if loaded.upsamples else ""
    for axis in apart:
        sizes = everything.histogram(axis)
        along = f" along {axis}" if axis else ""
        typer.echo(f"theoretical RF  {min(sizes)} to {max(sizes)} px{along}{of_what}")
        Console().print(size_chart(sizes))


def _print_feasible(loaded: SearchSpace, constraint: RFConstraint, seed: int) -> None:
    import numpy as np

    for gate, allowed in constraint.described().items():
        if gate != "measured":
            typer.echo(f"{gate.replace('_', ' ') + ' range':<21}{allowed}")
    # What a candidate skips of its field is no matter of the range.
    by_trf = replace(constraint, max_gridding=None, expected=False, measured=False)
    rng = np.random.default_rng(seed)
    for name, one in (("within TRF range", by_trf), ("feasible", constraint)):
        typer.echo(f"{name:<21}{_how_many(loaded.feasible(one), rng)}")


def _how_many(feasible: FeasibleSet, rng: np.random.Generator) -> str:
    """A number where it is exact, else an interval."""
    if feasible.is_exact:
        return f"{feasible.count:,} ({feasible.fraction:.3g} of all, exact)"
    size = feasible.candidates.size
    low, high = feasible.estimate(rng)
    return f"{low:.2g} to {high:.2g} ({low / size:.2g} to {high / size:.2g} of all, 95 % interval)"
