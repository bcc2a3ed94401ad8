"""What fits with the fewest changes, the lines that apply it, and weights from files."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rfsearch.models.resolve import resolve_model
from rfsearch.models.weights import load_weights, save_weights
from rfsearch.retrofit._code import lines_of
from rfsearch.retrofit.changes import Changes, retrofit
from rfsearch.retrofit.fit import constraint_for, fit
from rfsearch.retrofit.levels import at_levels
from rfsearch.retrofit.space import RetrofitSpace
from rfsearch.space.budget import Budget
from rfsearch.space.constraint import RFConstraint
from rfsearch.target.target import ScaleTarget
from rfsearch.trace.trace import trace_receptive_field


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1, padding_mode="reflect"), nn.ReLU()),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
    )


@pytest.fixture(scope="module")
def space() -> RetrofitSpace:
    return RetrofitSpace(network(), 64)


@pytest.mark.parametrize(
    "constraint",
    [
        RFConstraint(theoretical=(9, 11), effective=None, budget=Budget(max_output_stride=2)),
        RFConstraint(theoretical=(24, 40), effective=None),
    ],
)
def test_the_fewest_changes_are_found(space: RetrofitSpace, constraint: RFConstraint) -> None:
    found = fit(space, constraint, wanted=3).found
    assert found
    options = [[(name, v) for v in values[1:]] for name, values in space.choices().items()]
    fitting: list[set[Any]] = []
    fewest = len(found[-1].steps)
    for number in range(1, fewest + 1):
        for decisions in combinations(options, number):
            for steps in product(*decisions):
                if any(part <= set(steps) for part in fitting):
                    continue
                changed = retrofit(
                    space.model.module, space.changes(space.given | dict(steps)), 64
                )
                if constraint.is_feasible(changed, 64):
                    fitting.append(set(steps))
    ours = [set(one.steps) for one in found]
    assert all(one in fitting for one in ours)
    assert [len(one) for one in ours] == sorted(map(len, ours))
    # All with the fewest changes; of more changes, those that promise most are tried.
    least = min(map(len, fitting))
    assert {frozenset(one) for one in ours if len(one) == least} == {
        frozenset(one) for one in fitting if len(one) == least
    }


def test_what_fits_as_it_is_needs_no_change(space: RetrofitSpace) -> None:
    fitting = fit(space, RFConstraint(theoretical=(10, 20), effective=None))
    assert fitting.given.fits
    assert fitting.found == ()
    assert fitting.nearest is fitting.given
    assert fitting.given.in_words == "as given"
    assert fitting.num_traced == 1


def test_nothing_fits(space: RetrofitSpace) -> None:
    impossible = RFConstraint(theoretical=(400, 500), effective=None)
    fitting = fit(space, impossible)
    assert fitting.found == ()
    (missed,) = fitting.out_of_reach
    assert missed.gate == "theoretical"
    largest = space.candidate(fitting.nearest and space.given | dict(fitting.nearest.steps))
    assert largest is not None
    assert missed.size == largest.receptive_field().size < 400
    # One bound can be met, and the other cannot: the first layer alone needs more.
    flops = 0.5 * fitting.given.flops / 1e9
    both = RFConstraint(theoretical=(3, 8), effective=None, budget=Budget(max_flops_g=flops))
    fitting = fit(space, both)
    assert [verdict.gate for verdict in fitting.out_of_reach] == ["flops"]


def test_units_are_as_close_together_as_the_smallest_object(space: RetrofitSpace) -> None:
    constraint = constraint_for(space, ScaleTarget(3.5, 6), max_flops_ratio=2)
    assert constraint.ranges()["finest_stride"].high == 3.5
    assert constraint.budget is not None
    given = trace_receptive_field(network(), 64).cost().flops
    assert constraint.budget.max_flops_g == pytest.approx(2 * given / 1e9)
    apart = constraint_for(space, ScaleTarget.apart((8, 12), (2, 4)))
    assert [apart.ranges(axis)["finest_stride"].high for axis in ("height", "width")] == [8, 2]


def test_levels_are_outputs_or_layers() -> None:
    model = at_levels(resolve_model(network(), 64), ["2.0", "output"])
    assert list(trace_receptive_field(model, 64).outputs) == ["2.0", "output"]
    space = RetrofitSpace(model)
    traced = space.candidate(space.given | {"2.0.stride": "stride 1"})
    assert traced is not None
    assert {level: one.height.stride for level, one in traced.outputs.items()} == {
        "2.0": 2,
        "output": 2,
    }
    with pytest.raises(ValueError, match=r"outputs or layers of Sequential, but '2.5' is none; "):
        at_levels(resolve_model(network(), 64), ["2.5"])


# Lines of torch.


class Odd(nn.Module):
    """Layers whose names are no names of Python, or no places in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("1x1", nn.Conv2d(3, 4, 3, 2, 1))
        self.block = nn.ModuleDict({"pool": nn.MaxPool2d(2), "0": nn.MaxPool2d(2)})
        self.last = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.get_submodule("1x1")(x)
        return self.last(self.block["0"](self.block["pool"](x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("make", "changes", "lines"),
    [
        (
            network,
            {"0": {"stride": 1}, "2.0": {"stride": 1, "dilation": [1, 2], "padding": [1, 2]}},
            [
                "model[0].stride = (1, 1)",
                "model[2][0].stride = (1, 1)",
                "model[2][0].dilation = (1, 2)",
                "model[2][0].padding = (1, 2)",
                "model[2][0]._reversed_padding_repeated_twice = [2, 2, 1, 1]",
            ],
        ),
        (
            Odd,
            {"1x1": {"scale": 1.5, "stride": 1}, "block.pool": {"skip": True}},
            [
                "model.get_submodule('1x1').register_forward_pre_hook(lambda layer, given: "
                "torch.nn.functional.interpolate(given[0], scale_factor=1.5, mode='bilinear'))",
                "model.get_submodule('1x1').stride = (1, 1)",
                "model.block.pool = torch.nn.Identity()",
            ],
        ),
        (
            Odd,
            {"block.0": {"skip": True}, "last": {"skip": True}},
            [
                "model.set_submodule('block.0', torch.nn.Identity())",
                "model.last.forward = torch.nn.Identity().forward  # Its weights stay.",
            ],
        ),
    ],
)
def test_lines_of_torch_do_the_same(
    make: Callable[[], nn.Module], changes: Changes, lines: list[str]
) -> None:
    given = make().eval()
    assert lines_of(given, changes) == lines
    model = copy.deepcopy(given)
    for line in lines:
        exec(line, {"model": model, "torch": torch})
    images = torch.randn(1, 3, 64, 64)
    changed = retrofit(given, changes, 64)
    assert torch.equal(model(images), changed(images))
    assert not torch.equal(model(images)[..., :1], given(images)[..., :1])
    assert list(model.state_dict()) == list(given.state_dict())


# Weights.


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "weights.pt", "nested.pth", "module.pt", "model._orig_mod.pt"]
)
def test_weights_of_a_file(name: str, tmp_path: Path) -> None:
    given, other = network(), network()
    nn.init.normal_(given[0].weight)  # type: ignore[arg-type]
    given.to(memory_format=torch.channels_last)
    if name.endswith("safetensors"):
        save_weights(given.state_dict(), tmp_path / name)
    else:
        prefix = "" if name.startswith(("weights", "nested")) else name.removesuffix("pt")
        weights = {f"{prefix}{key}": value for key, value in given.state_dict().items()}
        torch.save({"state_dict": weights} if "nested" in name else weights, tmp_path / name)
    load_weights(other, tmp_path / name)
    pairs = given.parameters(), other.parameters()
    assert all(torch.equal(a, b) for a, b in zip(*pairs, strict=True))


class Runs:
    """What unpickling would run."""

    def __reduce__(self) -> Any:
        return print, ("This must not be printed.",)


def write_bad(path: Path) -> None:
    weights: dict[str, Tensor] = dict(network().state_dict())
    if path.name == "other.safetensors":
        weights["0.weight"] = weights.pop("3.weight")[:2]
        weights["head"] = weights.pop("0.bias")
        save_file(weights, path)
    elif path.name == "code.pt":
        path.write_bytes(pickle.dumps({"0.weight": Runs()}))
    elif path.name == "list.pt":
        torch.save([1, 2], path)
    elif path.name == "numbers.pt":
        torch.save({"epoch": 3}, path)
    elif path.name != "missing.pt":
        path.write_bytes(b"no weights")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        (
            "other.safetensors",
            r"weights of the network, but lacks 0.bias, 3.weight, has besides head, has in "
            r"another shape 0.weight \(2, 4, 3, 3\) for \(4, 3, 3, 3\)\.",
        ),
        ("code.pt", r"must hold a state_dict, of safetensors or of torch.save, but cannot be re"),
        ("list.pt", r"must hold a state_dict, tensors by name, but holds a list"),
        ("numbers.pt", r"must hold a state_dict, tensors by name, but holds a dict"),
        ("text.pt", r"must hold a state_dict, .* but cannot be read"),
        ("text.safetensors", r"must hold a state_dict, .* but cannot be read"),
        ("missing.pt", r"cannot be read \(No such file"),
    ],
)
def test_bad_weights(
    name: str, match: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bad(tmp_path / name)
    with pytest.raises(ValueError, match=match) as caught:
        load_weights(network(), tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""
