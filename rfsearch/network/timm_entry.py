"""Searched networks as one entry of timm's registry, which importing this module makes.

An exported folder then loads as any other of timm's:

    import timm
    import rfsearch.network.timm_entry
    model = timm.create_model("local-dir:FOLDER", pretrained=True)
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from rfsearch.network.architecture import Architecture
from rfsearch.network.model import SearchedNetwork, build_model

#: Name of the entry.
ENTRY = "rfsearch_network"
#: Name of the layer whose scores belong to classes.
CLASSIFIER = "head.fc"
#: How images become inputs, beside the statistics that each network has of its own: as
#: `rfsearch.measure.image_files.read_image` does it.
RESIZING: dict[str, Any] = {"crop_pct": 1.0, "crop_mode": "center", "interpolation": "bilinear"}

default_cfgs = generate_default_cfgs(
    {ENTRY: {"first_conv": "stem.0.conv", "classifier": CLASSIFIER, **RESIZING}}
)


@register_model  # type: ignore[untyped-decorator]  # timm publishes no types
def rfsearch_network(pretrained: bool = False, **options: Any) -> SearchedNetwork:
    """A searched network, by what `Architecture.to_dict` gives as the option `architecture`."""
    model: SearchedNetwork = build_model_with_cfg(
        _build, ENTRY, pretrained, feature_cfg={"flatten_sequential": True}, **options
    )
    return model


def _build(
    architecture: dict[str, Any],
    in_chans: int = 3,
    num_classes: int = 1000,
    global_pool: str = "avg",
) -> SearchedNetwork:
    model = build_model(Architecture.from_dict(architecture), in_chans, num_classes)
    if global_pool != "avg":
        model.reset_classifier(num_classes, global_pool)
    return model
