"""Search network architectures whose receptive field fits the objects they must see.

Names are loaded when first used: `import rfsearch` imports neither torch nor pandas.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rfsearch.analysis import trials_dataframe as trials_dataframe
    from rfsearch.architecture import Architecture as Architecture
    from rfsearch.architecture import Block as Block
    from rfsearch.architecture import Stage as Stage
    from rfsearch.architecture import Stem as Stem
    from rfsearch.budget import Budget as Budget
    from rfsearch.choices import StageChoices as StageChoices
    from rfsearch.choices import StemChoices as StemChoices
    from rfsearch.constraint import RFConstraint as RFConstraint
    from rfsearch.diagnosis import diagnose as diagnose
    from rfsearch.erf import MeasuredERF as MeasuredERF
    from rfsearch.erf import measure_erf as measure_erf
    from rfsearch.expected_erf import ExpectedERF as ExpectedERF
    from rfsearch.findings import Finding as Finding
    from rfsearch.model import build_model as build_model
    from rfsearch.neck_choices import NeckChoices as NeckChoices
    from rfsearch.necks import ASPP as ASPP
    from rfsearch.necks import FPN as FPN
    from rfsearch.necks import Merge as Merge
    from rfsearch.necks import UNet as UNet
    from rfsearch.object_scales import ObjectScales as ObjectScales
    from rfsearch.objective import Objective as Objective
    from rfsearch.probe import probe_receptive_field as probe_receptive_field
    from rfsearch.receptive_field import ReceptiveField as ReceptiveField
    from rfsearch.receptive_field import stack as stack
    from rfsearch.receptive_field import window as window
    from rfsearch.sampler import RFSampler as RFSampler
    from rfsearch.scales import read_scales as read_scales
    from rfsearch.scenes import make_scenes as make_scenes
    from rfsearch.sources import digit_scenes as digit_scenes
    from rfsearch.sources import image_folder as image_folder
    from rfsearch.space import SearchSpace as SearchSpace
    from rfsearch.target import ScaleTarget as ScaleTarget
    from rfsearch.tasks import ClassificationTask as ClassificationTask
    from rfsearch.trace import trace_receptive_field as trace_receptive_field
    from rfsearch.trace_result import TracedMap as TracedMap
    from rfsearch.trace_result import TracedModel as TracedModel
    from rfsearch.training import TrainingConfig as TrainingConfig

_HOMES = {
    "ASPP": "necks",
    "Architecture": "architecture",
    "Block": "architecture",
    "Budget": "budget",
    "ClassificationTask": "tasks",
    "ExpectedERF": "expected_erf",
    "FPN": "necks",
    "Finding": "findings",
    "MeasuredERF": "erf",
    "ObjectScales": "object_scales",
    "Merge": "necks",
    "NeckChoices": "neck_choices",
    "Objective": "objective",
    "RFConstraint": "constraint",
    "RFSampler": "sampler",
    "ReceptiveField": "receptive_field",
    "ScaleTarget": "target",
    "SearchSpace": "space",
    "Stage": "architecture",
    "StageChoices": "choices",
    "Stem": "architecture",
    "StemChoices": "choices",
    "TracedMap": "trace_result",
    "TracedModel": "trace_result",
    "TrainingConfig": "training",
    "UNet": "necks",
    "build_model": "model",
    "diagnose": "diagnosis",
    "digit_scenes": "sources",
    "image_folder": "sources",
    "make_scenes": "scenes",
    "measure_erf": "erf",
    "probe_receptive_field": "probe",
    "read_scales": "scales",
    "stack": "receptive_field",
    "trace_receptive_field": "trace",
    "trials_dataframe": "analysis",
    "window": "receptive_field",
}

__all__ = sorted(_HOMES)  # computed from the one table
__version__ = version("rfsearch")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rfsearch' has no attribute {name!r}")
    value = getattr(import_module(f"rfsearch.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
