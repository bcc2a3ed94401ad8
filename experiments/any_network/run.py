"""How close is the expected ERF of any traced network to the measured one, and how much cheaper?

Networks of timm and torchvision that no search space describes, each at its deepest block whose
theoretical receptive field is at most `LARGEST_FIELD` px. Measured: the mean squared gradient of
the local field over initialisations and images of white noise, at an input that clips nothing.
Weights are drawn with mean 0 and variance one over the fan-in, the definition of the expectation.
Writes results.csv beside this file, row by row. Run: python experiments/any_network/run.py, with
names for some networks alone, or with --expected for all but the measured ERFs.
"""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
import torchvision
from torch import nn

import rfsearch as rfs
from rfsearch.measure.read import layer_map
from rfsearch.trace.result import TracedModel

RESULTS = Path(__file__).parent / "results.csv"
INITIALISATIONS = 3
IMAGES = 2
LARGEST_FIELD = 224
#: Some networks at a deeper block, too.
DEEPER_FIELD = 500

#: Family by network; a name with a dot is torchvision's.
NETWORKS = {
    "densenet121": "densenet",
    "inception_v3": "inception",
    "vgg16_bn": "vgg",
    "vgg11": "vgg",
    "mobilenetv2_100": "mobilenet",
    "mobilenetv3_large_100": "mobilenet",
    "ghostnet_100": "ghostnet",
    "regnetx_004": "regnet",
    "regnety_004": "regnet",
    "dla34": "dla",
    "hrnet_w18_small": "hrnet",
    "repvgg_a0": "repvgg",
    "convnext_atto": "convnext",
    "efficientnet_b0": "efficientnet",
    "efficientnetv2_rw_t": "efficientnet",
    "tv.shufflenet_v2_x1_0": "shufflenet",
    "tv.googlenet": "googlenet",
    "tv.squeezenet1_1": "squeezenet",
    "legacy_xception": "xception",
    "res2net50_26w_4s": "res2net",
    "vovnet39a": "vovnet",
    "cspdarknet53": "cspnet",
    "dpn68": "dpn",
    "selecsls42": "selecsls",
    "mnasnet_100": "mnasnet",
    "resnetv2_50": "pre-activation resnet",
    "resnext50_32x4d": "resnext",
    "skresnet18": "sknet",
    "resnest14d": "resnest",
    "mobileone_s0": "mobileone",
    "inception_v4": "inception",
    "nf_resnet26": "nfnet",
    "resnet50_gn": "group-normalised resnet",
    "xception41": "xception",
    "rexnet_100": "rexnet",
    "mobilenetv1_100": "mobilenet",
    "hgnet_tiny": "hgnet",
    "starnet_s1": "starnet",
    "repvit_m0_9": "repvit",
    "convmixer_768_32": "convmixer",
    "tv.alexnet": "alexnet",
    "darknet53": "darknet",
    "resnetblur50": "blurred resnet",
    "tresnet_m": "tresnet",
}
#: Gates that are batch-normalised need more images: their inputs have one value for each.
MORE_IMAGES = {"rexnet_100": 16, "skresnet18": 16}
DEEPER = ("mobilenetv2_100", "regnetx_004", "ghostnet_100", "dla34", "efficientnet_b0")


class Case(NamedTuple):
    """A block of a network, and the side of an image that holds its field, in px."""

    layer: str
    field: int
    side: int


def make(name: str) -> nn.Module:
    if name.startswith("tv."):
        options = {"init_weights": False} if name == "tv.googlenet" else {}
        network = torchvision.models.get_model(name.removeprefix("tv."), weights=None, **options)
    else:
        network = timm.create_model(name)
    network.eval()
    return network


@torch.no_grad()
def initialise(module: nn.Module) -> nn.Module:
    """Weights of mean 0 and variance one over the fan-in; learned factors are one."""
    for name, weight in module.named_parameters():
        if weight.ndim > 1 and min(weight.shape[:2]) >= 1 and weight[0].numel() > 1:
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
        elif name.endswith("bias"):
            nn.init.zeros_(weight)
        else:
            nn.init.ones_(weight)
    return module


def deepest(network: nn.Module, largest: int) -> Case | None:
    """The deepest block whose field is at most so large; of a plain chain, the deepest layer."""
    found: dict[tuple[bool, int], Case] = {}
    for row in rfs.trace_receptive_field(network, 320).layers.itertuples():
        name, field = str(row.name), row.height
        is_map = len(row.output_size) == 4 and min(row.output_size[2:]) > 1
        if not name or "[" in name or not is_map or not 0 < field <= largest:
            continue
        parts = list(network.get_submodule(name).modules())[1:]
        is_block = any(isinstance(part, nn.Conv2d) for part in parts)
        side = -(-(int(field) + 2 * max(32, int(row.height_stride))) // 32) * 32
        found[is_block and field > largest / 2, int(field)] = Case(name, int(field), side)
    return found[max(found)] if found else None


def timed(function: Callable[[], Any], times: int = 2) -> tuple[Any, float]:
    """What a function returns, and the least seconds that one processor spent on it."""
    seconds = []
    for _ in range(times):
        start = time.process_time()
        value = function()
        seconds.append(time.process_time() - start)
    return value, min(seconds)


def one_image(network: nn.Module, case: Case) -> None:
    """The gradient of one image: forward to the block, and back."""
    image = torch.randn(1, 3, case.side, case.side, requires_grad=True)
    output = layer_map(network, image, case.layer)
    middle = output.shape[-1] // 2
    output[0, :, middle, middle].sum().backward()


def compare(name: str, largest: int) -> dict[str, Any] | None:
    network = make(name)
    case = deepest(network, largest)
    if case is None:
        return None
    expected = expectation(network, case.layer, case.side)
    variances, sizes = [], []
    for seed in range(INITIALISATIONS):
        torch.manual_seed(seed)
        measured = rfs.measure_erf(
            initialise(network),
            case.side,
            num_images=MORE_IMAGES.get(name, IMAGES),
            relative_error=None,
            layer=case.layer,
            local=True,
            seed=seed,
        )
        variances.append(measured.sigma**2)
        sizes.append(measured.size)
    _, image_seconds = timed(lambda: one_image(network, case))
    sigma = math.sqrt(sum(variances) / len(variances))
    return {
        "family": NETWORKS[name],
        "network": name,
        "layer": case.layer,
        "field": case.field,
        "sigma_measured": round(sigma, 2),
        "size_measured": round(sum(sizes) / len(sizes)),
        "clipped": round(measured.clipped, 3),
        "input_size": case.side,
        "image_ms": round(1e3 * image_seconds, 1),
        **expected,
        "error_percent": round(100 * (expected["sigma_expected"] / sigma - 1), 1),
    }


def carried_back(trace: TracedModel, layer: str) -> rfs.ExpectedERF:
    erf = trace.expected_erf(layer=layer)
    assert erf.sigma
    assert erf.size
    return erf


def expectation(network: nn.Module, layer: str, side: int) -> dict[str, Any]:
    """What is expected of a layer, and what tracing and carrying back take."""
    trace_seconds, seconds = [], []
    for _ in range(3):  # A trace keeps its moments.
        trace, traced_in = timed(partial(rfs.trace_receptive_field, network, side), times=1)
        erf, carried_in = timed(partial(carried_back, trace, layer), times=1)
        trace_seconds.append(traced_in)
        seconds.append(carried_in)
    return {
        "sigma_expected": round(erf.sigma, 2),
        "size_expected": erf.size,
        "trace_ms": round(1e3 * min(trace_seconds), 1),
        "expected_ms": round(1e3 * min(seconds), 1),
    }


def renewed(row: dict[str, Any]) -> dict[str, Any]:
    """A row with what is expected and all times anew, and what was measured as it is."""
    network = make(row["network"])
    case = Case(row["layer"], int(row["field"]), int(row["input_size"]))
    expected = expectation(network, case.layer, case.side)
    _, image_seconds = timed(lambda: one_image(network, case))
    error = 100 * (expected["sigma_expected"] / float(row["sigma_measured"]) - 1)
    times = {"image_ms": round(1e3 * image_seconds, 1)}
    return {**row, **expected, **times, "error_percent": round(error, 1)}


def write(rows: list[dict[str, Any]]) -> None:
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def rows(names: list[str]) -> Iterator[dict[str, Any]]:
    cases = [(name, LARGEST_FIELD) for name in names]
    cases += [(name, DEEPER_FIELD) for name in DEEPER if name in names]
    for name, largest in cases:
        try:
            row = compare(name, largest)
        except ValueError as error:
            print(f"{name}: {error}", flush=True)
            continue
        if row is not None:
            print(row, flush=True)
            yield row


def main() -> None:
    kept: list[dict[str, Any]] = []
    if RESULTS.exists():
        with RESULTS.open(encoding="utf-8") as file:
            kept = list(csv.DictReader(file))
    if sys.argv[1:] == ["--expected"]:
        write([renewed(row) for row in kept])
        return
    for row in rows(sys.argv[1:] or list(NETWORKS)):
        place = (row["network"], row["layer"])
        kept = [one for one in kept if (one["network"], one["layer"]) != place] + [row]
        write(kept)


if __name__ == "__main__":
    main()
