"""Blocks by name: registered here, or offered by installed packages as entry points."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers import architecture, refusal, rfsearch, stage_dict

from rfsearch.network import block_registry
from rfsearch.network.architecture import Architecture
from rfsearch.space.space import SearchSpace

SOURCE = """
import rfsearch as rfs
from torch import nn

def build(in_channels, out_channels, stride, kernel_size, dilation):
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2)

rfs.register_block("fancy", build)
"""
SPACE = """
[stem]
stride = 1
width = 4
[[stages]]
block = ["plain", "fancy"]
depth = 1
width = 4
"""


@pytest.fixture(autouse=True)
def _nothing_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_registry, "_registered", {})


def install(
    root: Path, patch: pytest.MonkeyPatch, source: str = SOURCE, name: str = "pkg_fancy"
) -> None:
    """A package with a module and an entry point, where Python finds packages."""
    site = root / name
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}.py").write_text(source)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{block_registry.GROUP}]\nfancy = {name}\n")
    patch.syspath_prepend(site)
    patch.delitem(sys.modules, name, raising=False)


def space_of(root: Path) -> Path:
    path = root / "space.toml"
    path.write_text(SPACE)
    return path


def test_a_package_offers_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)
    space = SearchSpace.load(space_of(tmp_path))
    assert space.size == 2
    assert [arch.receptive_field().size for arch in space] == [5, 5]
    assert rfsearch("space", space_of(tmp_path)).exit_code == 0
    assert set(block_registry._registered) == {"fancy"}


def test_an_unknown_block_is_told_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    path = space_of(tmp_path)
    path.write_text(SPACE.replace("fancy", "fancier"))
    said = refusal(rfsearch("space", path))
    assert said.startswith(
        "error: space.toml: stage 1, block 2: block 'fancier' is not registered here: it must be "
        "built in (plain, basic, bottleneck, inception, mbconv, convnext, attention), registered "
        "in each process by `rfsearch.register_block` (none), or an entry point `rfsearch.blocks` "
        "of an installed package ("
    )
    assert "fancy" in said
    assert said.endswith("), but got 'fancier'.")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "import no_such_module",
            "cannot be loaded from the entry point `fancy = pkg_fancy` of pkg_fancy: "
            "ModuleNotFoundError: No module named 'no_such_module'.",
        ),
        ("print(1 / 0)", "of pkg_fancy: ZeroDivisionError: division by zero."),
        (
            "",
            "must be registered by the entry point `fancy = pkg_fancy` of pkg_fancy, but that "
            "does not call `rfsearch.register_block('fancy', ...)`.",
        ),
        (
            SOURCE.replace('"fancy"', '"plain"'),
            "The name of a block must be new, but 'plain' is that of a built-in block.",
        ),
    ],
)
def test_a_package_that_does_not_give_its_block_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    install(tmp_path, monkeypatch, source)
    said = refusal(rfsearch("space", space_of(tmp_path)))
    assert said.startswith("error: space.toml: stage 1, block 2: block 'fancy' ")
    assert said.endswith(reason)


def test_two_packages_may_not_offer_the_same_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    install(tmp_path, monkeypatch, name="pkg_other")
    said = refusal(rfsearch("space", space_of(tmp_path)))
    assert "block 'fancy' is offered by several packages: pkg_" in said


def test_the_json_of_an_architecture_names_a_block_that_is_not_known_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    values = architecture(stage_dict("fancy")).to_dict()
    assert Architecture.from_dict(values) == architecture(stage_dict("fancy"))
    monkeypatch.undo()
    monkeypatch.setattr(block_registry, "_registered", {})
    with pytest.raises(ValueError, match=r"^architecture: stage 1, block: block 'fancy' is not"):
        Architecture.from_dict(values)
