"""Is the traced receptive field right where other tools are, and how much faster is it?

Eight torchvision networks without their classifiers, one after another through rfsearch and every
peer that is installed. Prints a table of fields and one of CPU times. Peers are optional:
`pip install --no-deps --ignore-requires-python rfa-toolbox==1.7.0 torchscan==0.1.2 attrs graphviz
tqdm`. Run: python experiments/trace_peers/run.py
"""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import io
import math
import statistics
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torchvision
from torch import nn

import rfsearch as rfs
from rfsearch.field.unit_grid import gather, join

#: Receptive fields in px, from a recurrence by hand; squeeze-and-excite is not counted.
TRUTHS = {
    "resnet18": 435,
    "resnet50": 427,
    "vgg16": 212,
    "mobilenet_v2": 491,
    "efficientnet_b0": 851,
    "convnext_tiny": 1688,
    "inception_v3": 1311,
    "densenet121": 2071,
}
#: Side of the input that the tools are given, in px. Padded networks do not depend on it.
SIZE = 224
#: Height of the strip of the NaN trick, in px: inception_v3 refuses less than 75.
STRIP = 96
REPEATS = 5
#: A tool this slow runs once.
SLOW = 1.0


class Result(NamedTuple):
    """What a tool found (px, infinite for global, or why it failed), and its CPU time in s."""

    found: float | str
    seconds: float


class Case(NamedTuple):
    """A network without pooling and classifier."""

    name: str
    model: nn.Module


Tool = Callable[[Case], float]


def case(name: str) -> Case:
    options = {"init_weights": False} if name == "inception_v3" else {}
    model = torchvision.models.get_model(name, weights=None, **options).eval()
    if hasattr(model, "features"):
        return Case(name, model.features)
    dropped = {"avgpool", "fc", "dropout", "AuxLogits"}
    kept = (child for n, child in model.named_children() if n not in dropped)
    return Case(name, nn.Sequential(*kept))


def traced(case: Case) -> float:
    for remembered in (gather, join):
        remembered.cache_clear()  # So that no repetition is faster than the first.
    return rfs.trace_receptive_field(case.model, SIZE).output.width.size


def nan_trick(case: Case) -> float:
    """Columns of the input whose gradient is NaN when that of the middle unit is.

    It is given what it cannot know: an input that is just large enough.
    """
    strip = torch.randn(1, 3, STRIP, 2 * TRUTHS[case.name] + 64, requires_grad=True)
    output = case.model(strip)
    gradient = torch.zeros_like(output)
    gradient[..., output.shape[-1] // 2] = float("nan")
    (found,) = torch.autograd.grad(output, strip, gradient)
    columns = found.isnan().any(dim=1).any(dim=1)[0].nonzero().flatten()
    width = int(columns[-1] - columns[0]) + 1
    return math.inf if width == strip.shape[-1] else width


def rfa_toolbox() -> Tool:
    """rfa-toolbox 1.7.0: the largest finite field of its graph."""
    collections.Sequence = collections.abc.Sequence  # type: ignore[attr-defined]
    from rfa_toolbox import create_graph_from_pytorch_model

    def run(case: Case) -> float:
        graph = create_graph_from_pytorch_model(case.model, input_res=(1, 3, SIZE, SIZE))
        # One number for both axes, or a pair of them.
        sizes = [float(np.max(node.receptive_field_max)) for node in graph.all_layers]
        return max(size for size in sizes if math.isfinite(size))

    return run


def torchscan() -> Tool:
    """torchscan 0.1.2: the field of the last layer; later versions report none."""
    from torchscan import crawl_module

    def run(case: Case) -> float:
        return float(crawl_module(case.model, (3, SIZE, SIZE))["layers"][-1]["rf"])

    return run


PEERS: dict[str, Callable[[], Tool]] = {
    "rfa-toolbox": rfa_toolbox,
    "torchscan": torchscan,
    "NaN trick": lambda: nan_trick,
}


def installed() -> dict[str, Tool]:
    tools: dict[str, Tool] = {"rfsearch": traced}
    for name, load in PEERS.items():
        try:
            tools[name] = load()
        except ImportError as error:
            print(f"{name} is left out: {error}")
    return tools


def measure(tool: Tool, case: Case) -> Result:
    seconds: list[float] = []
    while len(seconds) < REPEATS and not (seconds and seconds[0] > SLOW):
        start = time.process_time()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                found: float | str = tool(case)
        except Exception as error:
            found = f"error: {type(error).__name__}"
        seconds.append(time.process_time() - start)
    return Result(found, statistics.median(seconds))


def verdict(found: float | str, truth: int) -> str:
    if isinstance(found, str):
        return found
    if found == truth:
        return f"{truth}"
    return "global" if math.isinf(found) else f"{found:.4g} wrong"


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tools = installed()
    measure(traced, case("resnet18"))  # Loads what is loaded when first used.
    results = {
        name: {tool: measure(run, case(name)) for tool, run in tools.items()} for name in TRUTHS
    }
    fields = pd.DataFrame(
        {
            name: {"truth": str(truth)}
            | {tool: verdict(result.found, truth) for tool, result in results[name].items()}
            for name, truth in TRUTHS.items()
        }
    ).T
    times = pd.DataFrame({n: {t: r.seconds for t, r in row.items()} for n, row in results.items()})
    right = {tool: (fields[tool] == fields["truth"]).sum() for tool in tools}
    ratios = {tool: (times.loc[tool] / times.loc["rfsearch"]).median() for tool in tools}
    print(fields.to_string(), "\n\nCPU seconds")
    print(times.T.to_string(float_format="{:.3f}".format), "\n")
    for tool in tools:
        print(
            f"{tool}: {right[tool]} of {len(TRUTHS)} right, {ratios[tool]:.1f} times the CPU time"
        )


if __name__ == "__main__":
    main()
