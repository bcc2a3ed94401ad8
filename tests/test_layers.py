"""The architecture of the package: imports point one way only."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import rfsearch

#: Bottom to top. A module may import from its own layer and from those below.
LAYERS: tuple[set[str], ...] = (
    {
        "activations", "cost", "coverage", "erf_map", "expected_erf", "expression", "gradients",
        "limits", "moments", "notebook", "palette", "poolings", "profiles", "ranges",
        "receptive_field", "rectifiers", "saved_activations", "unit_grid", "validation",
    },
    {
        "annotations", "annotations_coco", "annotations_csv", "annotations_masks",
        "annotations_voc", "architecture", "bands", "block_parts", "blocks", "budget",
        "dilations", "image_header", "layer_field", "levels", "neck", "necks", "object_scales",
        "questions", "readings", "resizing", "scales", "stages", "stems", "target",
    },
    {
        "baseline_names", "candidates", "choices", "constraint", "decisions", "effects",
        "feasible", "feasible_graph", "findings", "level_ranges", "neck_choices", "objectives",
        "remedies", "rules", "space", "stage_heads", "stem_choices", "trial_attributes",
        "trial_gates", "verdict", "ways",
    },
    {
        "builders", "coverage_probe", "diagnosis", "erf", "erf_average", "erf_crop", "erf_images",
        "erf_initialisation", "erf_local", "erf_read", "erf_unit", "export_formats",
        "image_files", "latency", "model", "model_necks", "network_folder", "probe", "replknet",
        "timm_entry", "timm_models", "timm_network", "trace", "trace_call", "trace_layers",
        "trace_layout", "trace_mixing", "trace_mode", "trace_operations", "trace_positions",
        "trace_reshaping", "trace_result", "trace_shapes", "trace_slicing", "trace_windows",
        "traced_layers",
    },
    {
        "array_cache", "augmentation", "boxed_images", "checkpoints", "classification", "datasets",
        "dense_detector", "detection", "device_images", "device_memory", "file_images", "heads",
        "image_lesson", "image_pixels", "level_maps", "loading_errors", "masked_images",
        "package_images", "pixel_reader", "read_ahead", "retraining", "retraining_classifier",
        "retraining_course", "retraining_data", "retraining_run", "retraining_tiles",
        "scale_scores", "scenes", "segmentation", "sources", "streamed_images", "task_erf",
        "tasks", "tile_cuts", "tile_data", "tile_objects", "tiles", "training", "training_batches",
        "training_config", "whole_network",
    },
    {
        "baselines", "curves", "data_config", "database_url", "devices", "environment",
        "experiment", "interrupts", "local_workers", "objective", "outage", "patient_storage",
        "promotion", "quota", "ray_workers", "recovery", "rejection", "rungs", "sampler",
        "search_methods", "storage", "study", "weights", "worker",
    },
    {
        "advice", "analysis", "charts", "comparison", "dashboard", "erf_effect",
        "experiment_story", "export", "field_figures", "front", "html_report", "importances",
        "interactive", "interactive_front", "level_table", "model_card", "objective_columns",
        "pareto", "plots", "progress", "report", "report_tables", "report_text", "savings",
        "scale_plot", "search_figures", "statistics", "story", "target_report", "trained_network",
    },
    {
        "cli", "cli_crew", "cli_dashboard", "cli_device", "cli_doctor", "cli_erf", "cli_errors",
        "cli_export", "cli_latency", "cli_models", "cli_report", "cli_rf", "cli_run",
        "cli_search", "cli_space", "cli_studies", "cli_target", "cli_train", "cli_worker",
    },
)  # fmt: skip
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}
#: Layers below this one are arithmetic and data.
FIRST_HEAVY_LAYER = 3
HEAVY = {"torch", "timm", "pandas", "matplotlib"}

PACKAGE = Path(rfsearch.__file__).parent
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}


class Import(NamedTuple):
    """One imported module, and whether it is loaded only when a function runs, or never."""

    module: str
    deferred: bool


def imports(source: str) -> set[Import]:
    """Everything a module imports, function bodies and `if TYPE_CHECKING` included."""
    return _collect(ast.parse(source), deferred=False)


def _collect(node: ast.AST, deferred: bool) -> set[Import]:
    if isinstance(node, ast.Import):
        return {Import(alias.name, deferred) for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {Import(module, deferred) for module in _modules(node)}
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    found = set()
    for name, value in ast.iter_fields(node):
        later = deferred or is_function or (name == "body" and _is_type_checking(node))
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                found |= _collect(child, later)
    return found


def _modules(node: ast.ImportFrom) -> list[str]:
    base = "rfsearch" if node.level else ""
    module = ".".join(part for part in (base, node.module) if part)
    if module != "rfsearch":
        return [module]
    # `from rfsearch import SearchSpace` loads the module that holds it.
    return [
        f"rfsearch.{rfsearch._HOMES.get(alias.name, alias.name)}"
        for alias in node.names
        if alias.name != "__version__"
    ]


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def siblings(module: str) -> set[str]:
    found = imports(FILES[module].read_text(encoding="utf-8"))
    names = [name.split(".") for name, _ in found]
    # A bare `import rfsearch` hides which sibling is meant, so it keeps a name of no layer.
    return {".".join(parts[1:2]) or "rfsearch" for parts in names if parts[0] == "rfsearch"}


def libraries(module: str) -> dict[str, bool]:
    """Other packages that a module imports, and whether only deferred."""
    found: dict[str, bool] = {}
    for name, deferred in imports(FILES[module].read_text(encoding="utf-8")):
        library = name.partition(".")[0]
        found[library] = found.get(library, True) and deferred
    return found


def loaded_after(statements: str) -> set[str]:
    """Heavy packages that a fresh interpreter has loaded after some statements."""
    code = f"import sys; {statements}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return (HEAVY | {"optuna", "torchvision", "mlxtend", "scipy", "PIL"}) & set(run.stdout.split())


def test_collector_sees_hidden_imports() -> None:
    source = """
from __future__ import annotations
import os.path
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from rfsearch.space import SearchSpace
else:
    import json
class A:
    def method(self):
        from rfsearch import build_model, __version__
        def inner():
            import torch.nn
try:
    from . import cli
except ImportError:
    from .erf import measure_erf
"""
    assert imports(source) == {
        Import("__future__", False),
        Import("os.path", False),
        Import("typing", False),
        Import("rfsearch.space", True),
        Import("json", False),
        Import("rfsearch.model", True),
        Import("torch.nn", True),
        Import("rfsearch.cli", False),
        Import("rfsearch.erf", False),
    }


def test_layers_do_not_overlap() -> None:
    assert sum(len(layer) for layer in LAYERS) == len(RANK)


def test_table_names_only_files_that_exist() -> None:
    assert set(RANK) - set(FILES) == set()


@pytest.mark.parametrize("module", FILES)
def test_every_file_is_in_the_table(module: str) -> None:
    assert module in RANK


@pytest.mark.parametrize("module", FILES)
def test_imports_point_down(module: str) -> None:
    unknown_rank = len(LAYERS)
    rank = RANK.get(module, -1)
    upward = {name for name in siblings(module) if RANK.get(name, unknown_rank) > rank}
    assert upward == set()


def test_no_cycles() -> None:
    graph = {module: siblings(module) for module in FILES}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"Modules import each other in a circle: {' -> '.join(error.args[1])}")
    assert set(order) >= set(FILES)


@pytest.mark.parametrize(
    "module", sorted(name for name, rank in RANK.items() if rank < FIRST_HEAVY_LAYER)
)
def test_arithmetic_and_data_need_no_heavy_library(module: str) -> None:
    used = libraries(module)
    assert HEAVY & set(used) == set()
    assert used.get("optuna", True), "optuna is imported outside of a function"


def test_every_public_name_has_a_home() -> None:
    assert set(rfsearch._HOMES.values()) <= set(FILES)
    assert dir(rfsearch) == sorted(rfsearch._HOMES) == rfsearch.__all__


def test_unknown_public_name() -> None:
    with pytest.raises(AttributeError, match="module 'rfsearch' has no attribute 'nonsense'"):
        rfsearch.nonsense  # noqa: B018 - the access is what is tested


def test_import_is_light() -> None:
    assert loaded_after("import rfsearch") == set()


def test_spaces_targets_and_constraints_are_light() -> None:
    names = (
        "rfsearch.SearchSpace; rfsearch.ScaleTarget; rfsearch.RFConstraint; rfsearch.read_scales"
    )
    assert loaded_after(f"import rfsearch; {names}") == set()


def test_analysis_needs_no_torch() -> None:
    assert "torch" not in loaded_after("import rfsearch.analysis")


def test_loading_a_model_is_noticed() -> None:
    assert {"torch", "timm"} <= loaded_after("import rfsearch; rfsearch.build_model")
