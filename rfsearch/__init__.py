"""Search network architectures whose receptive field fits the objects they must see.

Names are loaded when first used: `import rfsearch` imports neither torch nor pandas.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rfsearch.analysis.analysis import trials_dataframe as trials_dataframe
    from rfsearch.analysis.comparison import compare_studies as compare_studies
    from rfsearch.analysis.erf_effect import erf_correlations as erf_correlations
    from rfsearch.analysis.importances import choice_importances as choice_importances
    from rfsearch.analysis.level_table import levels_dataframe as levels_dataframe
    from rfsearch.analysis.pareto import pareto_front as pareto_front
    from rfsearch.analysis.savings import gate_savings as gate_savings
    from rfsearch.analysis.statistics import rank_correlation as rank_correlation
    from rfsearch.analysis.statistics import trend as trend
    from rfsearch.data.boxed_images import coco_images as coco_images
    from rfsearch.data.boxed_images import voc_images as voc_images
    from rfsearch.data.masked_images import masked_images as masked_images
    from rfsearch.data.package_images import buildings as buildings
    from rfsearch.data.package_images import nuclei as nuclei
    from rfsearch.data.package_images import trees as trees
    from rfsearch.data.scenes import make_scenes as make_scenes
    from rfsearch.data.sources import digit_scenes as digit_scenes
    from rfsearch.data.sources import image_folder as image_folder
    from rfsearch.data.tile_data import BoxedImage as BoxedImage
    from rfsearch.data.tile_data import MaskedImage as MaskedImage
    from rfsearch.data.tile_data import detection_data as detection_data
    from rfsearch.data.tile_data import segmentation_data as segmentation_data
    from rfsearch.data.tiles import AreaTiling as AreaTiling
    from rfsearch.data.tiles import Tiling as Tiling
    from rfsearch.diagnosis.diagnosis import diagnose as diagnose
    from rfsearch.diagnosis.findings import Finding as Finding
    from rfsearch.field.expected_erf import ExpectedERF as ExpectedERF
    from rfsearch.field.receptive_field import ReceptiveField as ReceptiveField
    from rfsearch.field.receptive_field import stack as stack
    from rfsearch.field.receptive_field import window as window
    from rfsearch.measure.erf import MeasuredERF as MeasuredERF
    from rfsearch.measure.erf import measure_erf as measure_erf
    from rfsearch.measure.latency import Latency as Latency
    from rfsearch.measure.latency import measure_latency as measure_latency
    from rfsearch.network.architecture import Architecture as Architecture
    from rfsearch.network.model import build_model as build_model
    from rfsearch.network.necks import ASPP as ASPP
    from rfsearch.network.necks import FPN as FPN
    from rfsearch.network.necks import Merge as Merge
    from rfsearch.network.necks import UNet as UNet
    from rfsearch.network.stages import Block as Block
    from rfsearch.network.stages import Stage as Stage
    from rfsearch.network.stems import Stem as Stem
    from rfsearch.search.objective import Objective as Objective
    from rfsearch.search.sampler import RFSampler as RFSampler
    from rfsearch.space.budget import Budget as Budget
    from rfsearch.space.choices import StageChoices as StageChoices
    from rfsearch.space.constraint import RFConstraint as RFConstraint
    from rfsearch.space.neck_choices import NeckChoices as NeckChoices
    from rfsearch.space.space import SearchSpace as SearchSpace
    from rfsearch.space.stem_choices import StemChoices as StemChoices
    from rfsearch.target.object_scales import ObjectScales as ObjectScales
    from rfsearch.target.scales import read_scales as read_scales
    from rfsearch.target.target import ScaleTarget as ScaleTarget
    from rfsearch.trace.probe import probe_receptive_field as probe_receptive_field
    from rfsearch.trace.result import TracedMap as TracedMap
    from rfsearch.trace.result import TracedModel as TracedModel
    from rfsearch.trace.trace import trace_receptive_field as trace_receptive_field
    from rfsearch.training.config import TrainingConfig as TrainingConfig
    from rfsearch.training.tasks import ClassificationTask as ClassificationTask
    from rfsearch.training.tasks import DetectionTask as DetectionTask
    from rfsearch.training.tasks import SegmentationTask as SegmentationTask

_HOMES = {
    "ASPP": "network.necks",
    "Architecture": "network.architecture",
    "AreaTiling": "data.tiles",
    "Block": "network.stages",
    "BoxedImage": "data.tile_data",
    "Budget": "space.budget",
    "ClassificationTask": "training.tasks",
    "DetectionTask": "training.tasks",
    "ExpectedERF": "field.expected_erf",
    "FPN": "network.necks",
    "Finding": "diagnosis.findings",
    "Latency": "measure.latency",
    "MaskedImage": "data.tile_data",
    "MeasuredERF": "measure.erf",
    "ObjectScales": "target.object_scales",
    "Merge": "network.necks",
    "NeckChoices": "space.neck_choices",
    "Objective": "search.objective",
    "RFConstraint": "space.constraint",
    "RFSampler": "search.sampler",
    "ReceptiveField": "field.receptive_field",
    "ScaleTarget": "target.target",
    "SearchSpace": "space.space",
    "SegmentationTask": "training.tasks",
    "Stage": "network.stages",
    "StageChoices": "space.choices",
    "Stem": "network.stems",
    "StemChoices": "space.stem_choices",
    "Tiling": "data.tiles",
    "TracedMap": "trace.result",
    "TracedModel": "trace.result",
    "TrainingConfig": "training.config",
    "UNet": "network.necks",
    "build_model": "network.model",
    "buildings": "data.package_images",
    "choice_importances": "analysis.importances",
    "coco_images": "data.boxed_images",
    "compare_studies": "analysis.comparison",
    "detection_data": "data.tile_data",
    "diagnose": "diagnosis.diagnosis",
    "digit_scenes": "data.sources",
    "erf_correlations": "analysis.erf_effect",
    "gate_savings": "analysis.savings",
    "image_folder": "data.sources",
    "levels_dataframe": "analysis.level_table",
    "make_scenes": "data.scenes",
    "masked_images": "data.masked_images",
    "measure_erf": "measure.erf",
    "measure_latency": "measure.latency",
    "nuclei": "data.package_images",
    "pareto_front": "analysis.pareto",
    "probe_receptive_field": "trace.probe",
    "rank_correlation": "analysis.statistics",
    "read_scales": "target.scales",
    "segmentation_data": "data.tile_data",
    "stack": "field.receptive_field",
    "trace_receptive_field": "trace.trace",
    "trees": "data.package_images",
    "trend": "analysis.statistics",
    "trials_dataframe": "analysis.analysis",
    "voc_images": "data.boxed_images",
    "window": "field.receptive_field",
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
