"""Which of the networks that timm, torchvision and segmentation-models-pytorch list are traced?

Each is built without weights, one after another, at the size that it states, and traced whole,
its head included. A network counts as traced if every output that depends on the image has its
fields; as traced in part if some output has none; else as refused, by the kind of reason. Data
may take up to `MOST_MEMORY`. Writes sweep.csv beside this file, row by row. Run: python
experiments/trace_peers/sweep.py, with `library` or `library/part of a name` for some alone, or
with --again for those that were not traced whole the last time, which writes sweep_part.csv.
"""

from __future__ import annotations

import csv
import inspect
import re
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import nn

import rfsearch as rfs
from rfsearch.trace.trace import UntracedError

RESULTS = Path(__file__).parent / "sweep.csv"
#: Bytes of data that a trace may take.
MOST_MEMORY = 6 * 2**30
#: Networks of other than 224 px, by a part of their names in torchvision.
SIZES: dict[str, Any] = {
    "raft": ((3, 256, 256), (3, 256, 256)),
    "r3d": (16, 112, 112), "mc3": (16, 112, 112), "r2plus1d": (16, 112, 112),
    "s3d": (16, 224, 224), "mvit": (16, 224, 224), "swin3d": (16, 224, 224),
    "rcnn": 800, "retinanet": 800, "fcos": 800, "ssd300": 300, "ssdlite320": 320,
    "deeplabv3": 520, "lraspp": 520, "fcn_": 520, "inception": 299,
}  # fmt: skip
#: Of segmentation-models-pytorch every decoder is traced on these, and U-Net on every encoder.
ENCODERS = (
    "resnet34",
    "efficientnet-b0",
    "mobilenet_v2",
    "vgg16_bn",
    "mit_b0",
    "tu-convnext_atto",
)
SEGMENTATION_SIZE = 512


class Case(NamedTuple):
    """A listed network: how to build it without weights, and the size of its input in px."""

    library: str
    name: str
    build: Callable[[], nn.Module | str]
    size: Any


def of_timm() -> Iterator[Case]:
    for name in timm.list_models():
        _, *size = timm.get_pretrained_cfg(name, allow_unregistered=False).input_size
        yield Case("timm", name, lambda name=name: name, tuple(size))


def of_torchvision() -> Iterator[Case]:
    for name in torchvision.models.list_models():
        size = next((size for part, size in SIZES.items() if part in name), 224)
        yield Case("torchvision", name, partial(_torchvision, name), size)


def _torchvision(name: str) -> nn.Module:
    builder = torchvision.models.get_model_builder(name)
    options: dict[str, Any] = {"weights": None}
    names = inspect.signature(builder).parameters
    if "weights_backbone" in names:
        options["weights_backbone"] = None
    if "inception" in name or name == "googlenet":
        options["init_weights"] = False
    if "quantized" in name:
        options["quantize"] = False
    return _without_data(partial(builder, **options))


def of_smp() -> Iterator[Case]:
    decoders = [decoder for decoder in smp.MODEL_ARCHITECTURES_MAPPING if decoder != "dpt"]
    pairs = [(decoder, encoder) for decoder in decoders for encoder in ENCODERS]
    pairs += [("unet", encoder) for encoder in sorted(smp.encoders.encoders)]
    for decoder, encoder in dict.fromkeys((*pairs, ("dpt", "tu-vit_tiny_patch16_224"))):
        build = partial(smp.create_model, decoder, encoder, encoder_weights=None)
        size = 224 if decoder == "dpt" else SEGMENTATION_SIZE
        yield Case("smp", f"{decoder}-{encoder}", partial(_without_data, build), size)


def _without_data(build: Callable[[], nn.Module]) -> nn.Module:
    try:
        with torch.device("meta"):
            return build().eval()
    except (NotImplementedError, RuntimeError):  # It looks at its weights while it is built.
        return build().eval()


def row_of(case: Case) -> dict[str, Any]:
    row = {"library": case.library, "name": case.name, "input": _side(case.size)}
    start = time.process_time()
    options = {"follow": 0} if "raft" in case.name else {}
    try:
        model = case.build()
    except Exception as error:
        return row | {"verdict": "not built", "kind": _line(str(error))}
    built = time.process_time()
    try:
        traced = rfs.trace_receptive_field(model, case.size, **options)
        found, reasons = traced, list(traced.unfollowed.values())
        verdict = "in part" if reasons else "traced"
    except UntracedError as error:
        found, reasons, verdict = error.traced, [str(error)], "refused"
    except Exception as error:
        return row | {"verdict": "refused", "kind": _kind(error), "reason": _line(str(error))}
    row |= {"verdict": verdict, "seconds": round(time.process_time() - built, 2)}
    row |= {"build_seconds": round(built - start, 2), "outputs": len(found.outputs)}
    if reasons:
        row |= {"kind": _kind(reasons[0]), "reason": _line(reasons[0])}
    layers = found.layers
    row |= {
        "layers": len(layers),
        "layers_lost": int(layers.get("is_global", layers.get("name")).isna().sum()),
    }
    if found.outputs:
        last = list(found.outputs.values())[-1]
        field = list(last.axes.values())[-1]
        row |= {"field": field.size, "stride": str(field.stride), "global": last.is_global}
    return row


def _side(size: Any) -> str:
    if isinstance(size, int):
        return str(size)
    return (
        "x".join(str(side) for side in size)
        if isinstance(size[0], int)
        else "x".join(str(side) for side in size[0][1:])
    )


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


def _kind(error: Exception | str) -> str:
    """A reason without what differs from network to network."""
    text = _line(str(error))
    if isinstance(error, Exception) and not isinstance(error, ValueError):
        text = f"{type(error).__name__}: {text}"
    operation = re.search(r"operation `(\w+)`", text)
    text = re.sub(r" in layer `[^`]*`| ?\((operation|output) .*", "", text)
    text = re.sub(r"^.* but it fails: ?", "fails: ", text)
    text = re.sub(r"\d+", "N", re.sub(r"`[^`]*`", "...", text))
    return f"`{operation[1]}`: {text}" if operation else text


def chosen(words: Sequence[str]) -> Iterator[Case]:
    again = None
    if "--again" in words:
        last = pd.read_csv(RESULTS)
        rows = last[last["verdict"] != "traced"]
        again = set(zip(rows["library"], rows["name"], strict=True))
    wanted = [word.partition("/")[::2] for word in words if not word.startswith("--")]
    for case in (*of_torchvision(), *of_smp(), *of_timm()):
        named = not wanted or any(
            lib == case.library and part in case.name for lib, part in wanted
        )
        if named and (again is None or (case.library, case.name) in again):
            yield case


COLUMNS = (
    "library", "name", "input", "verdict", "outputs", "field", "stride", "global", "layers",
    "layers_lost", "build_seconds", "seconds", "kind", "reason",
)  # fmt: skip


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    words = sys.argv[1:]
    cases = list(chosen(words))
    path = RESULTS if not words else RESULTS.with_name("sweep_part.csv")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for case in cases:
            writer.writerow(row_of(case))
            file.flush()
    report(pd.read_csv(path))


def report(table: pd.DataFrame) -> None:
    print(pd.crosstab(table["library"], table["verdict"], margins=True).to_string(), "\n")
    lost = table[table["verdict"] != "traced"]
    kinds = lost.groupby("kind").agg(networks=("name", "size"), such_as=("name", "first"))
    print(kinds.sort_values("networks", ascending=False).to_string(), "\n")
    seconds = table["seconds"].dropna()
    print(f"median {seconds.median():.2f} s, longest {seconds.max():.1f} s")


if __name__ == "__main__":
    main()
