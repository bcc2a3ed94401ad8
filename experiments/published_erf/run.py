"""Our ERF numbers beside those of RepLKNet's published procedure, for published networks.

The published loop and its reading of the map (log10(A + 1), squares around the image's middle) are
written anew here from its description, and run on the same weights and the same noise as ours.
Prints a table of shares of the image's area in %, and draws figure.png.

Run: python experiments/published_erf/run.py [NETWORK ...]
     python experiments/published_erf/run.py --trained FOLDER_OF_IMAGES [NETWORK ...]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

import rfsearch as rfs
from rfsearch.basics.palette import BLACK, BLUE, GREY, ORANGE, VERMILLION
from rfsearch.measure.initialisation import calibrate, switch_branches_on

#: Name, layer to look at (the last map where it is empty), and side of the images in px.
NETWORKS = (
    ("resnet50", "", 224),
    ("resnet101", "", 224),
    ("convnext_tiny", "", 224),
    ("resnet50", "layer1", 256),
    ("resnet50", "", 512),
    ("resnet101", "", 512),
)
SHARES = (0.2, 0.3, 0.5, 0.99)
#: Readings of the ERF, with colour, mark and size in the figure.
READINGS = {
    "published, as it comes": (GREY, "v", 7),
    "published, ready": (BLACK, "o", 11),
    "ours, their definition": (ORANGE, "o", 6),
    "published, ready, no logarithm": (BLUE, "s", 9),
    "ours": (VERMILLION, "D", 5),
}
IMAGES = {224: 20, 256: 20, 512: 4}
#: As published, for trained networks.
TRAINED_SIDE, TRAINED_IMAGES = 1024, 50


def network(name: str, *, ready: bool) -> Any:
    """With random weights as timm gives it, or with branches on and batch statistics set."""
    torch.manual_seed(0)
    model: Any = timm.create_model(name).eval()
    if ready:
        switch_branches_on(model)
        calibrate(model, [torch.randn(8, 3, 256, 256)], lambda net, images: net(images))
    return model


def published_map(model: Any, layer: str, images: Tensor) -> NDArray[np.float64]:
    """Positive gradients of the rectified unit at half of the map, one image at a time."""
    kept: list[Tensor] = []
    hook = model.get_submodule(layer).register_forward_hook(
        lambda _module, _inputs, output: kept.append(output)
    )
    maps = []
    for image in images:
        one = image[None].clone().requires_grad_()
        last = model.forward_features(one)
        output = kept.pop() if layer else last
        unit = output[:, :, output.shape[2] // 2, output.shape[3] // 2]
        (gradient,) = torch.autograd.grad(unit.relu().sum(), one)
        maps.append(gradient.relu().sum((0, 1)).double().numpy())
    hook.remove()
    return np.mean(maps, axis=0)


def published_ratio(values: NDArray[np.float64], share: float) -> float:
    """Area of the smallest square around the image's middle with more than `share` of the mass."""
    middle = len(values) // 2
    distance = np.abs(np.arange(len(values)) - middle)
    reach = np.maximum(distance[:, None], distance)
    for number in range(1, middle):
        if values[reach <= number].sum() > share * values.sum():
            return float((2 * number + 1) ** 2 / values.size)
    return float("nan")


def percents(ratios: Iterable[float]) -> str:
    return " / ".join(f"{100 * ratio:.3g}" for ratio in ratios)


def compare(name: str, layer: str, side: int) -> dict[str, object]:
    """One row: the published procedure on the network as it comes, and both on the same one."""
    images = torch.randn(IMAGES[side], 3, side, side, generator=torch.Generator().manual_seed(0))
    raw = published_map(network(name, ready=False), layer, images)
    model = network(name, ready=True)
    published = published_map(model, layer, images)
    ours = rfs.measure_erf(
        model, side, images, layer=layer or None, relative_error=None, replknet=True
    )
    return {
        "network": f"{name} {layer}".strip(),
        "side": side,
        "published, as it comes": [published_ratio(np.log10(raw + 1), t) for t in SHARES],
        "published, ready": [published_ratio(np.log10(published + 1), t) for t in SHARES],
        "ours, their definition": [ours.replknet_area_ratio(t) for t in SHARES],
        "published, ready, no logarithm": [published_ratio(published, t) for t in SHARES],
        "ours": [ours.area_ratio(t) for t in SHARES],
        "sigma": round(ours.sigma, 1),
        "ERF size": ours.size,
        "clipped": round(ours.clipped, 2),
    }


def trained(name: str, images: Path) -> dict[str, object]:
    """A published network with its published weights on real images, by both definitions."""
    erf = rfs.measure_erf(
        name,
        TRAINED_SIDE,
        images,
        num_images=TRAINED_IMAGES,
        relative_error=None,
        pretrained=True,
        replknet=True,
    )
    return {
        "network": name,
        "ours, their definition": [erf.replknet_area_ratio(t) for t in SHARES],
        "ours": [erf.area_ratio(t) for t in SHARES],
        "ERF size": erf.size,
    }


def draw(frame: pd.DataFrame) -> None:
    """The share of the area that holds half of the map, by every reading."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    networks = [f"{row['network']}, {row['side']} px" for _, row in frame.iterrows()]
    for reading, (color, mark, size) in READINGS.items():
        values = [100 * ratios[SHARES.index(0.5)] for ratios in frame[reading]]
        axes.plot(values, networks, mark, color=color, markersize=size, label=reading)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="% of the image's area that holds half of the map (t = 50 %)")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(Path(__file__).parent / "figure.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--trained", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if options.trained:
        names = options.networks or ["resnet101", "resnet152"]
        rows = [trained(name, options.trained) for name in names]
    else:
        rows = [compare(*one) for one in NETWORKS if one[0] in (options.networks or one[0])]
    frame = pd.DataFrame(rows)
    shown = frame.columns.intersection(list(READINGS))
    print(frame.assign(**frame[shown].map(percents)).T.to_string())
    if not options.trained:
        draw(frame)


if __name__ == "__main__":
    main()
