"""The README of an exported network: what it is, its numbers, and how to load it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from rfsearch.erf_map import ERF_SHARE

if TYPE_CHECKING:
    from rfsearch.erf import MeasuredERF
    from rfsearch.latency import Latency
    from rfsearch.model import SearchedNetwork
    from rfsearch.network_folder import InputFormat

ERF_PICTURE = "erf.png"
_TORCH = """## How to load it

With torch alone:

```python
import torch

model = torch.export.load("model.pt2").module()
scores = model(images)
```"""
_TIMM = """As a timm model, to fine-tune it or for its features, where rfsearch is installed:

```python
import timm
import rfsearch.timm_entry

model = timm.create_model("local-dir:.", pretrained=True).eval()
```"""
_ONNX = """With onnxruntime:

```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
(scores,) = session.run(["scores"], {"images": images.numpy()})
```"""


@dataclass(frozen=True)
class CardFacts:
    """What a model card is made from.

    Attributes:
        model: The network.
        form: What it takes.
        origin: Where the weights come from, in a sentence.
        results: What training gave, by name, such as `{"accuracy": "0.934"}`.
        erf: Its measured effective receptive field.
        latency: How fast it was.
        differences: Files that need no rfsearch, and by how much their scores differ from the
            module's at most.
        num_images: Images that this was checked on.
    """

    model: SearchedNetwork
    form: InputFormat
    origin: str
    results: dict[str, str]
    erf: MeasuredERF
    latency: Latency
    differences: dict[str, float]
    num_images: int


def model_card(facts: CardFacts) -> str:
    """The card in Markdown."""
    sections = (
        "---\nlibrary_name: timm\ntags: [image-classification, rfsearch]\n---",
        f"# A network that sees {facts.erf.size} px\n\n{facts.origin}",
        f"![Effective receptive field]({ERF_PICTURE})",
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
    architecture, erf, form = facts.model.architecture, facts.erf, facts.form
    cost = architecture.cost(form.input_size, form.in_chans, len(form.class_names))
    field = architecture.receptive_field()
    rows = dict(facts.results)
    rows["theoretical receptive field"] = f"{field.size} px"
    rows["ERF size"] = f"{erf.size} px ({ERF_SHARE:.0%} of the gradient, {erf.num_images} images)"
    rows["ERF size expected at initialisation"] = f"{architecture.expected_erf().size:g} px"
    rows["ERF ratio"] = f"{erf.ratio:.2f}"
    rows["output stride"] = f"{field.stride} px"
    rows["parameters"] = f"{cost.parameters:,}"
    rows["operations for one image"] = f"{cost.flops / 1e9:.4g} GFLOPs (a multiply-add is two)"
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
    return (
        f"## Input and output\n\nImages `(batch, {form.in_chans}, {height}, {width})` with values "
        f"from 0 to 1, less the mean ({mean}), over the standard deviation ({std}), by channel. "
        f"Any batch size. The {len(form.class_names)} scores belong to the classes in "
        "`config.json`, `label_names`."
    )


def _loading(facts: CardFacts) -> str:
    checks = " and ".join(
        f"at most {difference:.1g} for `{name}`" for name, difference in facts.differences.items()
    )
    parts = [_TORCH, _TIMM]
    if "model.onnx" in facts.differences:
        parts.append(_ONNX)
    parts.append(
        f"On {facts.num_images} validation images the scores differed from those of the module by "
        f"{checks}."
    )
    return "\n\n".join(parts)
