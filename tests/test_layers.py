"""The architecture of the package: imports point one way only."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import rfsearch

#: Bottom to top. A room may import from those above it in this list.
ROOMS = (
    "basics", "feasible", "field", "network", "models", "tape", "trace", "target", "measure",
    "tiling", "space", "retrofit", "diagnosis", "data", "training", "storage", "search",
    "planning", "workers", "analysis", "report", "export", "cli",
)  # fmt: skip
RANK = {room: rank for rank, room in enumerate(ROOMS)}
#: Arithmetic and data, and the modules in these rooms that are neither.
LIGHT = {
    "basics": set(),
    "feasible": {"_descriptor_sampler", "_excerpt", "sampler"},
    "field": set(),
    "network": {
        "_builders",
        "_from_expression",
        "_model_necks",
        "model",
        "network_folder",
        "timm_entry",
    },
    "target": {"report", "scale_plot"},
    "space": set(),
}
HEAVY = {"torch", "timm", "pandas", "matplotlib"}
#: Modules that a person or a program starts with, so nothing imports them.
DOORS = {"cli.main"}

PACKAGE = Path(rfsearch.__file__).parent
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py"
}

#: Public names, and the modules that define them, as the stub says.
HOMES = {
    alias.name: str(node.module)
    for node in ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}


class Import(NamedTuple):
    """One imported module, and whether it is loaded only when a function runs, or never."""

    module: str
    deferred: bool


@cache
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
    if module.startswith("rfsearch.") and (PACKAGE / module.partition(".")[2]).is_dir():
        return [f"{module}.{alias.name}" for alias in node.names]
    if module != "rfsearch":
        return [module]
    # `from rfsearch import SearchSpace` loads the module that holds it.
    return [
        f"rfsearch.{HOMES.get(alias.name, alias.name)}"
        for alias in node.names
        if alias.name != "__version__"
    ]


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def siblings(module: str) -> set[str]:
    """Modules of this package that a module imports."""
    found = imports(FILES[module].read_text(encoding="utf-8"))
    return {
        name.partition(".")[2] or "rfsearch"
        for name, _ in found
        if name.partition(".")[0] == "rfsearch"
    }


def room_of(module: str) -> str:
    return module.partition(".")[0]


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
    from rfsearch.space.space import SearchSpace
else:
    import json
class A:
    def method(self):
        from rfsearch import build_model, __version__
        def inner():
            import torch.nn
try:
    from . import basics
    from rfsearch.analysis import plots
except ImportError:
    from .measure.erf import measure_erf
"""
    assert imports(source) == {
        Import("__future__", False),
        Import("os.path", False),
        Import("typing", False),
        Import("rfsearch.space.space", True),
        Import("json", False),
        Import("rfsearch.network.model", True),
        Import("torch.nn", True),
        Import("rfsearch.basics", False),
        Import("rfsearch.analysis.plots", False),
        Import("rfsearch.measure.erf", False),
    }


def test_these_are_the_rooms() -> None:
    assert {room_of(module) for module in FILES} == set(ROOMS)
    for room in ROOMS:
        assert (PACKAGE / room / "__init__.py").read_text(encoding="utf-8").startswith('"""')


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_small_enough_to_look_at(room: str) -> None:
    assert len([module for module in FILES if room_of(module) == room]) <= 21


@pytest.mark.parametrize("module", FILES)
def test_imports_point_down(module: str) -> None:
    upward = {
        name for name in siblings(module) if not RANK[room_of(name)] <= RANK[room_of(module)]
    }
    assert upward == set()


def test_no_cycles() -> None:
    graph = {module: siblings(module) for module in FILES}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"Modules import each other in a circle: {' -> '.join(error.args[1])}")
    assert set(order) == set(FILES)


def test_modules_with_an_underscore_are_used_by_their_room_alone() -> None:
    strangers = {
        (module, name)
        for module in FILES
        for name in siblings(module)
        if name.partition(".")[2].startswith("_") and room_of(name) != room_of(module)
    }
    assert strangers == set()


def test_modules_that_only_their_room_uses_have_an_underscore() -> None:
    """But for homes of public names, commands, and what experiments and other rooms' tests use."""
    used = set(HOMES.values()) | DOORS
    for module in FILES:
        used |= {name for name in siblings(module) if room_of(name) != room_of(module)}
    root = Path(__file__).parents[1]
    for path in (*root.glob("tests/**/*.py"), *root.glob("experiments/**/*.py")):
        found = imports(path.read_text(encoding="utf-8"))
        names = {name.removeprefix("rfsearch.") for name, _ in found}
        used |= {name for name in names if room_of(name) != path.parent.name}
    hidden = {module for module in FILES if "._" in module}
    commands = {module for module in siblings("cli.app") if "._" not in module}
    assert set(FILES) - used - hidden - commands == set()


@pytest.mark.parametrize("module", [name for name in FILES if room_of(name) in LIGHT])
def test_arithmetic_and_data_need_no_heavy_library(module: str) -> None:
    room, _, name = module.partition(".")
    if name not in LIGHT[room]:
        used = libraries(module)
        assert HEAVY & set(used) == set()
        assert used.get("optuna", True), "optuna is imported outside of a function"


def test_every_public_name_has_a_home() -> None:
    assert set(HOMES.values()) <= set(FILES)
    assert sorted(dir(rfsearch)) == sorted(HOMES) == sorted(rfsearch.__all__)


def test_unknown_public_name() -> None:
    with pytest.raises(AttributeError, match="No rfsearch attribute nonsense"):
        rfsearch.nonsense  # noqa: B018 - the access is what is tested


def test_import_is_light() -> None:
    assert loaded_after("import rfsearch") == set()


def test_spaces_targets_and_constraints_are_light() -> None:
    names = (
        "rfsearch.SearchSpace; rfsearch.ScaleTarget; rfsearch.RFConstraint; rfsearch.read_scales"
    )
    assert loaded_after(f"import rfsearch; {names}") == set()


def test_analysis_needs_no_torch() -> None:
    found = loaded_after("import rfsearch; rfsearch.trials_dataframe")
    assert "torch" not in found
    assert "pandas" in found  # What a public name loads is noticed.
