"""`rfsearch doctor`: what may be wrong with a network's receptive fields."""

from __future__ import annotations

import json
import shutil
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rfsearch.basics.axes import by_x
from rfsearch.cli._errors import user_mistakes
from rfsearch.cli._models import (
    CHANNELS_HELP,
    CHECKPOINT_HELP,
    MODEL_HELP,
    RATE_HELP,
    SIZE_HELP,
    SPACING_HELP,
    TARGET_HELP,
    load_model,
    parse_target,
    pixel_spacing,
)

if TYPE_CHECKING:
    from rfsearch.basics.spacing import Spacing
    from rfsearch.diagnosis.findings import Finding
    from rfsearch.diagnosis.network_fields import NetworkFields
    from rfsearch.models.resolved import ResolvedModel
    from rfsearch.target.target import ScaleTarget

_WIDEST_LINE = 100
#: Findings that changes of a trained network may end.
_RETROFITTED = ("rf_too_small", "stride_too_coarse", "erf_too_small", "erf_too_large")


def doctor(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    target: Annotated[
        str | None,
        typer.Option(help=f"{TARGET_HELP} Without, rules about object sizes are left out."),
    ] = None,
    input_size: Annotated[str | None, typer.Option(help=SIZE_HELP)] = None,
    spacing: Annotated[str | None, typer.Option(help=SPACING_HELP)] = None,
    sample_rate: Annotated[float | None, typer.Option(help=RATE_HELP)] = None,
    in_chans: Annotated[int | None, typer.Option(help=CHANNELS_HELP)] = None,
    checkpoint: Annotated[Path | None, typer.Option(help=CHECKPOINT_HELP)] = None,
    layer: Annotated[
        str | None, typer.Option(help="Take this layer's output for the network's, as layer3.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="With nnU-Net's plans: the folder of its labels.")
    ] = None,
    configuration: Annotated[
        str | None, typer.Option(help="Of nnU-Net's plans: 3d_fullres, or 2d, by default.")
    ] = None,
    erf: Annotated[
        bool, typer.Option("--erf/--no-erf", help="Measure the ERF of a timm model.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
) -> None:
    """Diagnose a network's receptive fields: each finding with its number, place and remedy.

    MODEL may also be nnU-Net's plans, nnUNetPlans.json.
    """
    with user_mistakes():
        objects = parse_target(target) if target is not None else None
        if _is_plan(model):
            _diagnose_plan(Path(model), configuration, masks, objects, as_json)
            return
        if masks is not None or configuration is not None:
            raise ValueError("--masks and --configuration are for nnU-Net's plans.")
        resolved = load_model(model, input_size, in_chans=in_chans, checkpoint=checkpoint)
        pixels = pixel_spacing(model, resolved.num_axes, spacing, sample_rate)
        from rfsearch.diagnosis.network_fields import network_fields

        fields = network_fields(resolved, layer)
    if objects and (remark := objects.beyond(resolved.input_size)):
        typer.echo(f"warning: --target: {remark}", err=True)
    findings, unchecked = _diagnose(resolved, fields, objects, layer, erf)
    if as_json:
        data = {
            "model": resolved.name,
            "input_size": list(resolved.input_size),
            "target": _as_data(objects) if objects else None,
            "findings": [asdict(finding) for finding in findings],
            "unchecked": unchecked,
        }
        typer.echo(json.dumps(data, indent=2))
    else:
        _print(resolved, fields, objects, findings, pixels)


def _is_plan(model: str) -> bool:
    from rfsearch.models.nnunet import is_plan

    path = Path(model)
    return path.suffix == ".json" and path.is_file() and is_plan(path)


def _diagnose_plan(
    path: Path,
    configuration: str | None,
    masks: Path | None,
    target: ScaleTarget | None,
    as_json: bool,
) -> None:
    from rfsearch.diagnosis.nnunet import diagnose_plan, objects_in
    from rfsearch.models.nnunet import read_plan

    plan = read_plan(path, configuration)
    if masks is not None and target is None:
        found = diagnose_plan(plan, objects_in(masks, plan))
    elif target is not None and masks is None:
        found = diagnose_plan(plan, target)
    else:
        raise ValueError("One of --masks and --target must say how large the objects are.")
    if as_json:
        typer.echo(json.dumps(found.as_data(), indent=2))
        return
    typer.echo(f"plan      {path}, {plan.name}, patches of {by_x(plan.patch_size)} px")
    for axis, one in found.axes.items():
        typer.echo(
            f"{axis:<9} objects {one.target.min_size:.4g} to {one.target.max_size:.4g} px, RF "
            f"{one.field:g} px, expected ERF {one.erf} px, patch {one.patch} px"
        )
    _print_findings(found.findings)


def _diagnose(
    model: ResolvedModel,
    fields: NetworkFields,
    target: ScaleTarget | None,
    layer: str | None,
    erf: bool,
) -> tuple[Sequence[Finding], list[str]]:
    """The findings, and what could not be checked, which is warned of as well."""
    from rfsearch.diagnosis.diagnosis import diagnose_fields
    from rfsearch.diagnosis.findings import UncheckedWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UncheckedWarning)
        findings = diagnose_fields(model, fields, target, layer=layer, erf=erf)
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    unchecked = [str(one.message) for one in caught if one.category is UncheckedWarning]
    return findings, unchecked


def _as_data(target: ScaleTarget) -> Any:
    """Its range in px, or that of each axis."""
    if target.axes:
        return {axis: _as_data(target.along(axis)) for axis in target.axes}
    return [target.min_size, target.max_size]


def _print(
    model: ResolvedModel,
    fields: NetworkFields,
    target: ScaleTarget | None,
    findings: Sequence[Finding],
    spacing: Spacing | None,
) -> None:
    sizes = target.in_words if target else "none given"
    typer.echo(f"model     {model.name}, input {by_x(model.input_size)} px")
    typer.echo(f"target    {sizes}")
    for output in fields.outputs:
        reach = output.reach
        size = "" if spacing is None else f" ({spacing.words(reach.size)})"
        typer.echo(f"output    {output.name}: RF {reach.size} px{size}, stride {reach.stride} px")
    _print_findings(findings)
    if target and any(finding.kind in _RETROFITTED for finding in findings):
        typer.echo("\n`rfsearch fit` with this model and target lists what keeps its weights.")


def _print_findings(findings: Sequence[Finding]) -> None:
    typer.echo(f"findings  {len(findings) or 'none'}")
    for finding in findings:
        typer.echo()
        typer.echo(f"{finding.kind} at {finding.place}: {_number(finding)}")
        typer.echo(_paragraph(finding.message))
        typer.echo(_paragraph(f"Remedy: {finding.remedy}"))


def _number(finding: Finding) -> str:
    return f"{finding.value:.4g} (limit {finding.limit:.4g})"


def _paragraph(text: str) -> str:
    width = min(shutil.get_terminal_size().columns, _WIDEST_LINE)
    return textwrap.fill(text, width, initial_indent="  ", subsequent_indent="  ")
