"""Copies that share nothing with the model, whatever it carries."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, weight_norm
from torch.optim.swa_utils import AveragedModel

from rfsearch.measure.erf import measure_erf
from rfsearch.measure.latency import measure_latency
from rfsearch.models.copies import copied, unwrapped, without_data
from rfsearch.trace.trace import trace_receptive_field

KEPT: dict[str, Any] = {}


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))


def changed(change: Callable[[nn.Module], object]) -> nn.Module:
    model = plain()
    change(model[0])
    return model


def pruned() -> nn.Module:
    model = changed(lambda conv: prune.random_unstructured(conv, "weight", 0.5))
    model(torch.zeros(1, 3, 8, 8))
    return model


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return changed(weight_norm)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain": plain,
    "pruned": pruned,
    "weight norm": old_weight_norm,
    "weight norm, parametrised": lambda: changed(parametrizations.weight_norm),
    "spectral norm": lambda: changed(parametrizations.spectral_norm),
    "averaged": lambda: AveragedModel(plain()),
    "data parallel": lambda: nn.DataParallel(plain()),
    "data parallel inside": lambda: nn.Sequential(nn.DataParallel(plain()), nn.ReLU()),
    "training": lambda: plain().train(),
    "half": lambda: plain().to(torch.bfloat16),
    "compiled in place": lambda: compiled_in_place(),
}


def compiled_in_place() -> nn.Module:
    model = plain()
    model._compiled_call_impl = lambda *_: pytest.fail("It was compiled.")  # type: ignore[assignment]
    return model


@pytest.mark.parametrize("name", MODELS)
def test_models_that_carry_more_than_parameters(name: str) -> None:
    model = MODELS[name]()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    assert trace_receptive_field(model, 32).output.height.size == 5
    assert measure_erf(model, 32, num_images=1).theoretical_size == 5
    if "compiled" not in name:
        assert measure_latency(model, 32, (1,), min_seconds=1e-3).latency_ms > 0
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert {part.training for part in model.modules()} == {True}


class Optimized(nn.Module):
    """What `torch.compile` gives."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod = module

    def forward(self, *_: Any) -> None:
        pytest.fail("It was compiled.")


def test_what_is_compiled_is_unwrapped() -> None:
    inner = plain()
    assert unwrapped(Optimized(nn.DataParallel(inner))) is inner
    for model in (Optimized(inner), nn.Sequential(Optimized(inner))):
        assert trace_receptive_field(model, 32).output.height.size == 5
        assert measure_erf(model, 32, num_images=1).theoretical_size == 5


@pytest.mark.parametrize(
    "script", [torch.jit.script, lambda m: torch.jit.trace(m, torch.zeros(1, 3, 9, 9))]
)
def test_torchscript_is_timed_and_else_refused(script: Callable[[nn.Module], nn.Module]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = script(plain())
    for run in (trace_receptive_field, measure_erf):
        with pytest.raises(ValueError, match=r"holds TorchScript \(layer `0`\): pass what"):
            run(nn.Sequential(model), 32)  # type: ignore[operator]
    assert measure_latency(model, 32, (1,), min_seconds=1e-3).latency_ms > 0


# -- hooks ------------------------------------------------------------------------------------


class Recorder:
    """Keeps outputs, as people do to look at activations."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def record(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.seen.append(output)


def to_a_dictionary(store: dict[str, Any], model: nn.Module) -> None:
    model[0].register_forward_hook(lambda m, i, o: store.__setitem__("a", o))  # type: ignore[operator]


def into_a_global(store: dict[str, Any], model: nn.Module) -> None:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        KEPT["a"] = output

    KEPT.clear()
    store["look"] = KEPT
    model[0].register_forward_hook(hook)  # type: ignore[operator]


def by_a_method(store: dict[str, Any], model: nn.Module) -> None:
    store["look"] = recorder = Recorder()
    model[0].register_forward_hook(recorder.record)  # type: ignore[operator]


def by_a_closure_over_an_object(store: dict[str, Any], model: nn.Module) -> None:
    store["look"] = recorder = Recorder()
    model[0].register_forward_hook(lambda m, i, o: recorder.seen.append(o))  # type: ignore[operator]


def before(store: dict[str, Any], model: nn.Module) -> None:
    store["list"] = kept = []  # type: ignore[var-annotated]
    model[0].register_forward_pre_hook(lambda m, i: kept.append(i))  # type: ignore[operator]


@pytest.mark.parametrize(
    "hook", [to_a_dictionary, into_a_global, by_a_method, by_a_closure_over_an_object, before]
)
def test_hooks_leave_nothing_with_the_caller(
    hook: Callable[[dict[str, Any], nn.Module], None],
) -> None:
    store: dict[str, Any] = {}
    model = plain()
    hook(store, model)
    look = store.get("look")
    tables = [dict(vars(part)["_forward_hooks"]) for part in model.modules()]
    assert trace_receptive_field(model, 32).output.height.size == 5
    assert measure_erf(model, 32, num_images=1).theoretical_size == 5
    assert set(store) <= {"look", "list"}
    assert not store.get("list")
    assert not (look.seen if isinstance(look, Recorder) else look)
    assert tables == [dict(vars(part)["_forward_hooks"]) for part in model.modules()]
    model(torch.zeros(1, 3, 9, 9))
    assert store.get("a", store.get("list")) is not None or look


def test_a_hook_that_changes_the_output_still_does() -> None:
    model = plain()
    sizes = {"factor": 2}
    model[2].register_forward_hook(lambda m, i, o: nn.functional.max_pool2d(o, sizes["factor"]))
    assert trace_receptive_field(model, 32).output.height.size == 6


def test_outputs_that_a_model_kept_do_not_hinder_a_copy() -> None:
    model = plain()
    to_a_dictionary(vars(model).setdefault("store", {}), model)
    model(torch.zeros(1, 3, 9, 9))
    assert model.store["a"].grad_fn is not None  # type: ignore[index]
    twin = copied(model)
    assert twin.store["a"] is not model.store["a"]  # type: ignore[index]
    assert {one.device.type for one in without_data(model).parameters()} == {"meta"}


@pytest.mark.parametrize("options", [{}, {"feature_cls": "hook"}, {"feature_cls": "fx"}])
def test_models_of_features_only(options: dict[str, str]) -> None:
    model = timm.create_model("test_efficientnet", features_only=True, **options)
    training = [part.training for part in model.modules()]
    traced = trace_receptive_field(model, 64)
    assert len(traced.outputs) == 5
    erf = measure_erf(model, 64, num_images=1, level="1")
    assert erf.theoretical_size == traced.outputs["1"].height.size
    assert [part.training for part in model.modules()] == training


def test_a_trace_that_a_model_keeps_is_shared() -> None:
    model = plain()
    model.traced = trace_receptive_field(model, 16)
    assert copied(model).traced is model.traced
    assert without_data(model).traced is model.traced
