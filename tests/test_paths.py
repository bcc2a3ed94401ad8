from __future__ import annotations

from helpers import resnet
from hypothesis import given, settings
from strategies import architectures

from rfsearch.architecture import Architecture
from rfsearch.expression import Chain, Convolution, Sum
from rfsearch.model import build_model
from rfsearch.paths import smallest_field
from rfsearch.receptive_field import window
from rfsearch.trace import trace_receptive_field


@given(architectures())
@settings(max_examples=25)
def test_the_smallest_field_is_the_traced_one(arch: Architecture) -> None:
    model = build_model(arch, num_classes=0)
    traced = trace_receptive_field(model, 256, forward=lambda net, x: net.forward_features(x))
    smallest = smallest_field(arch.lower())
    assert traced.output.smallest == (smallest.size, smallest.size)
    assert smallest.stride == arch.receptive_field().stride


def test_shortcuts_carry_the_stem_to_the_end() -> None:
    # 7x7 and the pooling: 11 px, whatever the depth.
    assert smallest_field(resnet("bottleneck", (3, 4, 6, 3)).lower()).size == 11
    assert smallest_field(resnet("basic", (1,)).lower()).size == 11


def test_the_narrower_branch_counts() -> None:
    branches = Sum((Convolution(5, 1, 1), Convolution(3, 1, 1)))
    after = Chain((branches, Convolution(3, 1, 1)))
    assert smallest_field(after) == window(3).then(window(3))


def test_it_goes_on_from_what_the_input_sees() -> None:
    seen = window(7, stride=2)
    assert smallest_field(Convolution(3, 1, 1), seen) == seen.then(window(3))
