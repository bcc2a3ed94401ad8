"""Search network architectures whose receptive field fits the objects they must see.

Names are loaded when first used: `import rfsearch` imports neither torch nor pandas.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rfsearch.analysis import trials_dataframe as trials_dataframe
    from rfsearch.architecture import Architecture as Architecture
    from rfsearch.boxed_images import coco_images as coco_images
    from rfsearch.boxed_images import voc_images as voc_images
    from rfsearch.budget import Budget as Budget
    from rfsearch.choices import StageChoices as StageChoices
    from rfsearch.comparison import compare_studies as compare_studies
    from rfsearch.constraint import RFConstraint as RFConstraint
    from rfsearch.diagnosis import diagnose as diagnose
    from rfsearch.erf import MeasuredERF as MeasuredERF
    from rfsearch.erf import measure_erf as measure_erf
    from rfsearch.erf_effect import erf_correlations as erf_correlations
    from rfsearch.expected_erf import ExpectedERF as ExpectedERF
    from rfsearch.findings import Finding as Finding
    from rfsearch.importances import choice_importances as choice_importances
    from rfsearch.latency import Latency as Latency
    from rfsearch.latency import measure_latency as measure_latency
    from rfsearch.level_table import levels_dataframe as levels_dataframe
    from rfsearch.masked_images import masked_images as masked_images
    from rfsearch.model import build_model as build_model
    from rfsearch.neck_choices import NeckChoices as NeckChoices
    from rfsearch.necks import ASPP as ASPP
    from rfsearch.necks import FPN as FPN
    from rfsearch.necks import Merge as Merge
    from rfsearch.necks import UNet as UNet
    from rfsearch.object_scales import ObjectScales as ObjectScales
    from rfsearch.objective import Objective as Objective
    from rfsearch.package_images import buildings as buildings
    from rfsearch.package_images import nuclei as nuclei
    from rfsearch.package_images import trees as trees
    from rfsearch.pareto import pareto_front as pareto_front
    from rfsearch.probe import probe_receptive_field as probe_receptive_field
    from rfsearch.receptive_field import ReceptiveField as ReceptiveField
    from rfsearch.receptive_field import stack as stack
    from rfsearch.receptive_field import window as window
    from rfsearch.sampler import RFSampler as RFSampler
    from rfsearch.savings import gate_savings as gate_savings
    from rfsearch.scales import read_scales as read_scales
    from rfsearch.scenes import make_scenes as make_scenes
    from rfsearch.sources import digit_scenes as digit_scenes
    from rfsearch.sources import image_folder as image_folder
    from rfsearch.space import SearchSpace as SearchSpace
    from rfsearch.stages import Block as Block
    from rfsearch.stages import Stage as Stage
    from rfsearch.statistics import rank_correlation as rank_correlation
    from rfsearch.statistics import trend as trend
    from rfsearch.stem_choices import StemChoices as StemChoices
    from rfsearch.stems import Stem as Stem
    from rfsearch.target import ScaleTarget as ScaleTarget
    from rfsearch.tasks import ClassificationTask as ClassificationTask
    from rfsearch.tasks import DetectionTask as DetectionTask
    from rfsearch.tasks import SegmentationTask as SegmentationTask
    from rfsearch.tile_data import BoxedImage as BoxedImage
    from rfsearch.tile_data import MaskedImage as MaskedImage
    from rfsearch.tile_data import detection_data as detection_data
    from rfsearch.tile_data import segmentation_data as segmentation_data
    from rfsearch.tiles import AreaTiling as AreaTiling
    from rfsearch.tiles import Tiling as Tiling
    from rfsearch.trace import trace_receptive_field as trace_receptive_field
    from rfsearch.trace_result import TracedMap as TracedMap
    from rfsearch.trace_result import TracedModel as TracedModel
    from rfsearch.training_config import TrainingConfig as TrainingConfig

_HOMES = {
    "ASPP": "necks",
    "Architecture": "architecture",
    "AreaTiling": "tiles",
    "Block": "stages",
    "BoxedImage": "tile_data",
    "Budget": "budget",
    "ClassificationTask": "tasks",
    "DetectionTask": "tasks",
    "ExpectedERF": "expected_erf",
    "FPN": "necks",
    "Finding": "findings",
    "Latency": "latency",
    "MaskedImage": "tile_data",
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
    "SegmentationTask": "tasks",
    "Stage": "stages",
    "StageChoices": "choices",
    "Stem": "stems",
    "StemChoices": "stem_choices",
    "Tiling": "tiles",
    "TracedMap": "trace_result",
    "TracedModel": "trace_result",
    "TrainingConfig": "training_config",
    "UNet": "necks",
    "build_model": "model",
    "buildings": "package_images",
    "choice_importances": "importances",
    "coco_images": "boxed_images",
    "compare_studies": "comparison",
    "detection_data": "tile_data",
    "diagnose": "diagnosis",
    "digit_scenes": "sources",
    "erf_correlations": "erf_effect",
    "gate_savings": "savings",
    "image_folder": "sources",
    "levels_dataframe": "level_table",
    "make_scenes": "scenes",
    "masked_images": "masked_images",
    "measure_erf": "erf",
    "measure_latency": "latency",
    "nuclei": "package_images",
    "pareto_front": "pareto",
    "probe_receptive_field": "probe",
    "rank_correlation": "statistics",
    "read_scales": "scales",
    "segmentation_data": "tile_data",
    "stack": "receptive_field",
    "trace_receptive_field": "trace",
    "trees": "package_images",
    "trend": "statistics",
    "trials_dataframe": "analysis",
    "voc_images": "boxed_images",
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
