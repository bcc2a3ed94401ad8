"""The README of an exported network: what it is, its numbers, and how to load it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

from rfsearch.basics.axes import by_x
from rfsearch.field.erf_map import ERF_SHARE
from rfsearch.network.network_folder import CLASSIFICATION
from rfsearch.training.detection import MAX_BOXES, NMS_THRESHOLD, SCORE_THRESHOLD
from rfsearch.training.tasks import HEADS

if TYPE_CHECKING:
    from rfsearch.measure.erf import MeasuredERF
    from rfsearch.measure.latency import Latency
    from rfsearch.network.architecture import Architecture
    from rfsearch.network.network_folder import InputFormat

ERF_PICTURE = "erf.png"
#: What a card calls the score, by metric.
SCORES = {
    "accuracy": "validation accuracy",
    "miou": "validation mean IoU",
    "ap": "validation AP (COCO)",
}
_TORCH = """With torch alone:

```python
import torch

model = torch.export.load("model.pt2").module()
{outputs} = model(images)
```"""
_TIMM = """As a timm model, to fine-tune it or for its features, where {needed} installed{part}:

```python
import timm
import rfsearch.network.timm_entry

model = timm.create_model("local-dir:.", pretrained=True).eval()
```"""
_WHOLE = """As a module with its head, where {needed} installed:

```python
from rfsearch.training.whole_network import load_whole

model, form = load_whole(".")
```"""
_ONNX = """With onnxruntime:

```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
{outputs} = session.run([{names}], {{"images": images.numpy()}})
```"""
#: The choice that `rfsearch.training.dense_detector.DenseDetector` leaves to the caller.
BEST_BOXES = f"""import torchvision

units, labels = (scores[0] > {SCORE_THRESHOLD}).nonzero(as_tuple=True)
boxes, scores = boxes[0][units], scores[0][units, labels]
best = torchvision.ops.batched_nms(boxes, scores, labels, {NMS_THRESHOLD})[:{MAX_BOXES}]
boxes, scores, labels = boxes[best], scores[best], labels[best]"""
_NMS = f"""The best boxes of the first image, as the score above counts them:

```python
{BEST_BOXES}
```"""


class _Kind(NamedTuple):
    """How the networks of a task are described: its tag in model hubs, and what it gives."""

    tag: str
    output: str


_KINDS = {
    "classification": _Kind(
        "image-classification", "The {number} scores belong to the classes in {file}."
    ),
    "segmentation": _Kind(
        "image-segmentation",
        "Scores `(batch, {number}, {height}, {width})`; that of a pixel's class is the largest. "
        "The classes stand in {file}.",
    ),
    "detection": _Kind(
        "object-detection",
        "For each unit of the maps left, top, right and bottom of a box in px, `(batch, units, "
        "4)`, and scores from 0 to 1, `(batch, units, {number})`, of the classes in {file}.",
    ),
}


@dataclass(frozen=True)
class CardFacts:
    """What a model card is made from.

    Attributes:
        architecture: Of the network.
        form: What it takes.
        origin: Where the weights come from, in a sentence.
        results: What training gave, by name, such as `{"accuracy": "0.934"}`.
        num_parameters: Of the network, its head included.
        level: The output map whose fields are told of.
        erf: Its measured effective receptive field; None where it could not be measured.
        latency: How fast it was.
        differences: Files that need no rfsearch, and by how much what they give differs from
            what the module gives at most.
        num_images: Images that this was checked on.
    """

    architecture: Architecture
    form: InputFormat
    origin: str
    results: dict[str, str]
    num_parameters: int
    level: str
    erf: MeasuredERF | None
    latency: Latency
    differences: dict[str, float]
    num_images: int


def model_card(facts: CardFacts) -> str:
    """The card in Markdown."""
    erf = facts.erf
    what = "found by an architecture search" if erf is None else f"that sees {erf.size} px"
    sections = (
        f"---\nlibrary_name: timm\ntags: [{_KINDS[facts.form.task].tag}, rfsearch]\n---",
        f"# A network {what}\n\n{facts.origin}",
        *([] if erf is None else [f"![Effective receptive field]({ERF_PICTURE})"]),
        _numbers(facts),
        _input(facts.form),
        _loading(facts),
        f"Written by rfsearch {version('rfsearch')} with torch {version('torch')} and "
        f"timm {version('timm')}.",
    )
    return "\n\n".join(sections) + "\n"


def one_line(text: str) -> str:
    """A name from outside as code in a line of Markdown.

    >>> one_line("a`b\\n# c")
    "`a'b # c`"
    """
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"


def _numbers(facts: CardFacts) -> str:
    architecture, erf, form = facts.architecture, facts.erf, facts.form
    cost = architecture.cost(form.input_size, form.in_chans, form.num_scores)
    axes = architecture.axes if architecture.axes_differ else (None,)
    fields = [architecture.receptive_field(facts.level, axis) for axis in axes]
    erfs = [architecture.expected_erf(facts.level, axis) for axis in axes]
    of_map = f" of the map {facts.level}" if len(architecture.levels) > 1 else ""
    rows = dict(facts.results)
    rows[f"theoretical receptive field{of_map}"] = f"{by_x(field.size for field in fields)} px"
    if erf is not None:
        size = by_x(erf.sizes) if len(axes) > 1 else erf.size
        rows[f"ERF size{of_map}"] = (
            f"{size} px ({ERF_SHARE:.0%} of the gradient, {erf.num_images} images)"
        )
    rows["ERF size expected at initialisation"] = f"{by_x(one.size for one in erfs)} px"
    if erf is not None and len(axes) == 1:
        rows["ERF ratio"] = f"{erf.ratio:.2f}"
    rows[f"output stride{of_map}"] = f"{by_x(field.stride for field in fields)} px"
    rows["parameters"] = f"{facts.num_parameters:,}"
    without = "" if form.task == CLASSIFICATION else ", without the head"
    rows[f"operations for one image{without}"] = (
        f"{cost.flops / 1e9:.4g} GFLOPs (a multiply-add is two)"
    )
    for one in facts.latency.batches:
        rows[f"latency, batch of {one.batch_size}"] = (
            f"{one.median_ms:.2f} ms ({facts.latency.device}, {facts.latency.dtype}), "
            f"peak memory {one.peak_memory_mb:.1f} MiB"
        )
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    return "\n".join(lines)


def _input(form: InputFormat) -> str:
    height, width = form.input_size
    mean, std = (", ".join(f"{one:.4f}" for one in values) for values in (form.mean, form.std))
    output = _KINDS[form.task].output.format(
        number=len(form.class_names),
        height=height,
        width=width,
        file="`config.json`, `label_names`",
    )
    resized = (
        f"Images are resized by {form.scale:g} first, and all px are those of the resized image. "
        if form.scale != 1
        else ""
    )
    return (
        f"## Input and output\n\n{resized}Images `(batch, {form.in_chans}, {height}, {width})` "
        f"with values from 0 to 1, less the mean ({mean}), over the standard deviation ({std}), "
        f"by channel. Any batch size. {output}"
    )


def _loading(facts: CardFacts) -> str:
    head = HEADS[facts.form.task]
    outputs, what = ", ".join(head.outputs), " and ".join(head.outputs)
    parts = ["## How to load it"]
    own = ", ".join(facts.architecture.own_blocks)
    needed = f"rfsearch and what has its blocks ({own}) are" if own else "rfsearch is"
    if "model.pt2" in facts.differences:
        parts.append(_TORCH.format(outputs=outputs))
    if facts.form.task == "detection" and facts.differences:
        parts.append(_NMS)
    if "model.onnx" in facts.differences:
        names = ", ".join(f'"{name}"' for name in head.outputs)
        tuple_of = f"({outputs},)" if len(head.outputs) == 1 else outputs
        parts.append(_ONNX.format(outputs=tuple_of, names=names))
    if head.place:
        parts.append(_WHOLE.format(needed=needed))
    parts.append(_TIMM.format(part=", without its head" if head.place else "", needed=needed))
    checks = " and ".join(
        f"at most {difference:.1g} for `{name}`" for name, difference in facts.differences.items()
    )
    if checks:
        parts.append(
            f"On {facts.num_images} validation images the {what} differed from those of the "
            f"module by {checks}."
        )
    return "\n\n".join(parts)
