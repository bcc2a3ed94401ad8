"""Networks that segment or detect, from a study to files and back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from experiments_on_folders import HAS_ONNX, stored_study
from helpers import architecture, refusal, rfsearch, stage_dict
from test_experiment_tasks import run, write_experiment
from test_export import fresh_process
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision
from torchvision.ops import batched_nms

from rfsearch.dense_detector import DenseDetector
from rfsearch.detection import NMS_THRESHOLD, SCORE_THRESHOLD, detector
from rfsearch.experiment import Experiment
from rfsearch.model import build_model
from rfsearch.tasks import Task
from rfsearch.whole_network import load_whole

KINDS = ("segmentation", "detection")
FILES = {"README.md", "architecture.json", "config.json", "erf.png", "head.safetensors"}
FILES |= {"model.pt2", "model.safetensors"} | ({"model.onnx"} if HAS_ONNX else set())
OUTPUTS = {"segmentation": ["scores"], "detection": ["boxes", "scores"]}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An experiment of each kind whose networks have learned something."""
    root = tmp_path_factory.mktemp("searched")
    folders = {kind: write_experiment(root / kind, kind, trained_trials=1) for kind in KINDS}
    for folder in folders.values():
        file = folder / "experiment.toml"
        file.write_text(file.read_text().replace("epochs = 1", "epochs = 40"))
        run(folder)
    return folders


@pytest.fixture(scope="module")
def exported(
    searched: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("exported")
    for kind, folder in searched.items():
        options = [] if HAS_ONNX else ["--no-onnx"]
        result = rfsearch("export", folder, "--out", root / kind, *options)
        assert result.exit_code == 0, result.output
        what = " and ".join(OUTPUTS[kind])
        checked = [line for line in result.stdout.splitlines() if f"{what} within" in line]
        assert len(checked) == 1 + HAS_ONNX
        assert all(line.endswith("of the module's on 6 images") for line in checked)
    return {kind: root / kind for kind in searched}


def task_of(folder: Path) -> Task:
    return Experiment.load(folder, "cpu").task


def value_of(folder: Path) -> float:
    (trial,) = [t for t in stored_study(folder).trials if t.values]
    return float(trial.values[0])


def loaded_in_torch(folder: Path) -> Callable[[Tensor], Any]:
    module = torch.export.load(folder / "model.pt2").module()
    return lambda images: module(images)


def mean_iou(found: Tensor, truth: Tensor, num_classes: int) -> float:
    """By its definition, over the classes that occur."""
    shares = []
    for label in range(num_classes):
        mine, real = found == label, truth == label
        if (mine | real).any():
            shares.append(float((mine & real).sum() / (mine | real).sum()))
    return float(np.mean(shares))


def chosen(boxes: Tensor, scores: Tensor) -> dict[str, Tensor]:
    """As the model card says it, with the limits of torchvision's detector, which are far away."""
    units, labels = (scores > SCORE_THRESHOLD).nonzero(as_tuple=True)
    boxes, scores = boxes[units], scores[units, labels]
    best = batched_nms(boxes, scores, labels, NMS_THRESHOLD)[:100]
    return {"boxes": boxes[best], "scores": scores[best], "labels": labels[best]}


# -- what is written --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_all_files_are_there(exported: dict[str, Path], kind: str) -> None:
    assert {path.name for path in exported[kind].iterdir()} == FILES
    assert len({path.stat().st_mode for path in exported[kind].iterdir()}) == 1
    assert json.loads((exported[kind] / "config.json").read_text())["task"] == kind


def test_the_file_segments_as_well_as_its_trial_did(
    searched: dict[str, Path], exported: dict[str, Path]
) -> None:
    task = task_of(searched["segmentation"])
    data: Any = task.data
    with torch.inference_mode():
        scores = loaded_in_torch(exported["segmentation"])(task.erf_images)
    assert len(data.valid_images) == len(task.erf_images)  # So these are all.
    found = mean_iou(scores.argmax(1), data.valid_masks, 3)
    assert found == pytest.approx(value_of(searched["segmentation"]), abs=1e-5)
    assert found > 0.5


def test_the_file_detects_as_well_as_its_trial_did(
    searched: dict[str, Path], exported: dict[str, Path]
) -> None:
    task = task_of(searched["detection"])
    data: Any = task.data
    with torch.inference_mode():
        boxes, scores = loaded_in_torch(exported["detection"])(task.erf_images)
    metric = MeanAveragePrecision(backend="faster_coco_eval")
    assert len(data.valid_images) == len(task.erf_images)  # So these are all.
    metric.update(
        [chosen(*image) for image in zip(boxes, scores, strict=True)],
        [
            {"boxes": b.corners, "labels": b.labels, "iscrowd": b.ignored.long()}
            for b in data.valid_boxes
        ],
    )
    found = float(metric.compute()["map"])
    assert found == pytest.approx(value_of(searched["detection"]), abs=1e-5)
    assert found > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_tells_of_the_task(
    searched: dict[str, Path], exported: dict[str, Path], kind: str
) -> None:
    card = (exported[kind] / "README.md").read_text()
    name = {"segmentation": "mean IoU", "detection": "AP (COCO)"}[kind]
    assert f"| validation {name} | {value_of(searched[kind]):.4f} |" in card
    tag = {"segmentation": "image-segmentation", "detection": "object-detection"}[kind]
    assert f"tags: [{tag}, rfsearch]" in card
    weights = load_whole(exported[kind])[0].parameters()
    assert f"| parameters | {sum(w.numel() for w in weights):,} |" in card
    assert ("batched_nms" in card) == (kind == "detection")


# -- loading it again -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_torch_alone_gives_the_same_for_any_batch(
    searched: dict[str, Path], exported: dict[str, Path], kind: str
) -> None:
    folder, images = exported[kind], task_of(searched[kind]).erf_images
    torch.save(images, folder / "inputs.pt")
    code = (
        "import torch, timm\n"
        'model = torch.export.load("model.pt2").module()\n'
        'images = torch.load("inputs.pt", weights_only=True)\n'
        "torch.save([model(images[:n]) for n in (1, 3, 6)], 'found.pt')\n"
        "print(any(name.startswith(('rfsearch', 'torchvision')) for name in sys.modules))\n"
    )
    fresh_process(code, folder)
    together = torch.load(folder / "found.pt", weights_only=True)[-1]
    for found in torch.load(folder / "found.pt", weights_only=True):
        for mine, all_of_them in zip(
            *((o,) if isinstance(o, Tensor) else o for o in (found, together)), strict=True
        ):
            torch.testing.assert_close(mine, all_of_them[: len(mine)])
    model, form = load_whole(folder)
    with torch.inference_mode():
        if kind == "segmentation":
            torch.testing.assert_close(model(images), together)
        else:
            boxes, scores = DenseDetector(model, form.input_size)(images)
            torch.testing.assert_close((boxes, scores), tuple(together))
    for file in ("inputs.pt", "found.pt"):
        (folder / file).unlink()


@pytest.mark.skipif(not HAS_ONNX, reason="needs rfsearch[export]")
@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime_gives_the_same_for_any_batch(
    searched: dict[str, Path], exported: dict[str, Path], kind: str
) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(exported[kind] / "model.onnx")
    assert [output.name for output in session.get_outputs()] == OUTPUTS[kind]
    images = task_of(searched[kind]).erf_images
    expected = loaded_in_torch(exported[kind])(images)
    for count in (1, 3, 6):
        found = session.run(OUTPUTS[kind], {"images": images[:count].numpy()})
        for mine, theirs in zip(
            found, (expected,) if isinstance(expected, Tensor) else expected, strict=True
        ):
            np.testing.assert_allclose(mine, theirs[:count].detach().numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_timm_builds_what_was_searched(
    searched: dict[str, Path], exported: dict[str, Path], kind: str
) -> None:
    images = task_of(searched[kind]).erf_images
    model = timm.create_model(f"local-dir:{exported[kind]}", pretrained=True).eval()
    whole: Any = load_whole(exported[kind])[0]
    inside = whole.backbone if kind == "segmentation" else whole.backbone.network
    with torch.inference_mode():
        torch.testing.assert_close(model.forward_features(images), inside.forward_features(images))
    assert model.num_classes == 0


def test_the_code_on_the_card_runs(searched: dict[str, Path], exported: dict[str, Path]) -> None:
    for kind, folder in exported.items():
        card = (folder / "README.md").read_text()
        blocks = [part.split("```")[0] for part in card.split("```python\n")[1:]]
        images = task_of(searched[kind]).erf_images
        torch.save(images, folder / "inputs.pt")
        start = "import torch\nimages = torch.load('inputs.pt', weights_only=True)\n"
        code = start + "with torch.inference_mode():\n" + "".join(
            f"    {line}\n" for block in blocks for line in ["", *block.splitlines()]
        )  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
        )
        (folder / "inputs.pt").unlink()
        assert done.returncode == 0, done.stderr


# -- the detector that can be exported --------------------------------------------------------


@pytest.mark.parametrize(
    "neck", [None, {"kind": "fpn", "width": 16, "num_levels": 2}], ids=["one map", "pyramid"]
)
def test_its_best_boxes_are_what_the_detector_finds(neck: dict[str, Any] | None) -> None:
    torch.manual_seed(0)
    stages = [stage_dict(stride=2), stage_dict(stride=2)]
    model = detector(build_model(architecture(*stages, neck=neck), 3, 0), num_classes=3).eval()
    # Some scores far above the others, as after training.
    torch.nn.init.normal_(model.head.classification_head.cls_logits.weight, std=0.3)
    torch.nn.init.constant_(model.head.classification_head.cls_logits.bias, -1.0)
    images = torch.randn(2, 3, 64, 32)
    with torch.inference_mode():
        boxes, scores = DenseDetector(model, (64, 32))(images)
        expected = model(images)
    assert boxes.shape[:2] == scores.shape[:2]
    for mine, theirs in zip(map(chosen, boxes, scores), expected, strict=True):
        assert len(theirs["boxes"]) > 20
        for name, values in theirs.items():
            torch.testing.assert_close(mine[name], values)


# -- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_only_classifiers_are_trained_further(
    exported: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    line = refusal(rfsearch("train", exported[kind], "--data", tmp_path, "--no-onnx"))
    assert line == (
        f"error: {exported[kind]}: only networks that classify can be trained further, but this "
        f"one is for {kind}."
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "head.safetensors").unlink(), r"head\.safetensors: the head cannot be re"),
        (lambda f: (f / "head.safetensors").write_text("x"), r"head\.safetensors: the head cann"),
        (
            lambda f: (f / "head.safetensors").write_bytes((f / "model.safetensors").read_bytes()),
            r"head\.safetensors: the head cannot be read \(Error",
        ),
        (
            lambda f: (f / "config.json").write_text(
                (f / "config.json").read_text().replace('"segmentation"', '"poetry"')
            ),
            "`task` must be one of classification, segmentation, detection, but got 'poetry'",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(
    exported: dict[str, Path], tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    for file in exported["segmentation"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    damage(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        load_whole(tmp_path)
    assert "\n" not in str(error.value)
