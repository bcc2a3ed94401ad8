"""Every file in `search_spaces/`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from helpers import SPACES, architecture, resnet, stage_dict

from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model
from rfsearch.space.space import SearchSpace

FILES = sorted(path for path in SPACES.glob("*.toml") if path.stem != "baselines")


def check_runs(member: Architecture) -> None:
    torch.manual_seed(0)
    model = build_model(member, in_chans=1, num_classes=3).eval()
    with torch.no_grad():
        features = model.forward_features(torch.randn(1, 1, 64, 64))
        scores = model.forward_head(features)
    cost = member.cost((64, 64), in_chans=1, num_classes=3)
    last = list(features.values())[-1] if isinstance(features, dict) else features
    assert last.shape == (1, member.num_features, *cost.output)
    assert scores.shape == (1, 3)
    assert scores.isfinite().all()
    assert sum(p.numel() for p in model.parameters()) == cost.parameters


def test_there_are_files() -> None:
    assert {path.stem for path in FILES} >= {
        *("toy", "plain", "dilated", "residual", "resnet", "convnext", "efficientnet"),
        *("multiscale", "hybrid", "deeplab", "unet", "fpn"),
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_loads_by_path_and_by_name(path: Path) -> None:
    space = SearchSpace.load(path)
    assert SearchSpace.load(path.stem) == space
    assert space.size > 100


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_says_its_question(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# Question: ")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_members_run(path: Path) -> None:
    space = SearchSpace.load(path)
    check_runs(space[0])
    check_runs(space[space.size - 1])
    check_runs(space.sample(np.random.default_rng(0)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_random_members_are_members(path: Path) -> None:
    space = SearchSpace.load(path)
    rng = np.random.default_rng(1)
    members = [space.sample(rng) for _ in range(20)]
    assert len(set(members)) > 10
    for member in members:
        assert member in space
        assert space.from_params(space.to_params(member)) == member


CONVNEXT_TINY = architecture(
    *[
        stage_dict("convnext", width, stride, (7,) * depth)
        for width, stride, depth in ((96, 1, 3), (192, 2, 3), (384, 2, 9), (768, 2, 3))
    ],
    kind="patch",
    kernel_size=4,
    stride=4,
    width=96,
)


@pytest.mark.parametrize(
    ("space", "member", "name"),
    [
        ("resnet", resnet("bottleneck", (3, 4, 6, 3)), "resnet50"),
        ("convnext", CONVNEXT_TINY, "convnext_tiny"),
    ],
)
def test_published_networks_are_members(space: str, member: Architecture, name: str) -> None:
    assert member in SearchSpace.load(space)
    with torch.device("meta"):
        published = timm.create_model(name, num_classes=0)
    # ConvNeXt normalises once more behind the pooling, in its head.
    body = [p.numel() for n, p in published.named_parameters() if not n.startswith("head")]
    assert member.cost((224, 224)).parameters == sum(body)
