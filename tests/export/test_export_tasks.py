"""Networks that segment or detect, from a study to files and back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from experiments_on_folders import HAS_ONNX
from helpers import architecture, refusal, rfsearch, stage_dict
from studies import stored_study
from test_cli_train import epochs_of, train
from test_experiment_tasks import SPACE, run, write_experiment
from test_export import fresh_process, scores, torch_alone_and_timm
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from rfsearch.data.device_images import Normalizer
from rfsearch.export._model_card import BEST_BOXES
from rfsearch.measure.latency import Latency
from rfsearch.network.model import build_model
from rfsearch.search.experiment import Experiment
from rfsearch.training.checkpoints import Checkpoint
from rfsearch.training.config import TrainingConfig
from rfsearch.training.dense_detector import DenseDetector
from rfsearch.training.detection import detector
from rfsearch.training.loop import TrainingResult
from rfsearch.training.task import Task
from rfsearch.training.tasks import HEADS
from rfsearch.training.whole_network import (
    create_whole,
    load_whole,
    network_to_train,
    save_whole,
    searched_part,
)

pytestmark = pytest.mark.usefixtures("plain_cards")
KINDS = ("segmentation", "detection")
EPOCHS = {"segmentation": 40, "detection": 15}
FILES = {"README.md", "architecture.json", "config.json", "erf.png", "head.safetensors"}
FILES |= {"model.pt2", "model.safetensors"} | ({"model.onnx"} if HAS_ONNX else set())
OUTPUTS = {"segmentation": ["scores"], "detection": ["boxes", "scores"]}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An experiment of each kind whose networks have learned something."""
    root = tmp_path_factory.mktemp("searched")
    folders = {kind: write_experiment(root / kind, kind, trained_trials=1) for kind in KINDS}
    for kind, folder in folders.items():
        file = folder / "experiment.toml"
        file.write_text(file.read_text().replace("epochs = 1", f"epochs = {EPOCHS[kind]}"))
        run(folder)
    return folders


@pytest.fixture(scope="module")
def exported(
    searched: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, any_latency: Latency
) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rfsearch.export.export.measure_latency", lambda *_: any_latency)
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
    """The best boxes of an image, by the code on the model card."""
    names = {"boxes": boxes[None], "scores": scores[None]}
    exec(BEST_BOXES, names)
    return {name: names[name] for name in ("boxes", "scores", "labels")}


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


@pytest.fixture(scope="module")
def torch_alone(
    searched: dict[str, Path],
    exported: dict[str, Path],
    searched_once: Path,
    exported_once: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """What a process gives that has imported nothing but torch, and has then run the cards."""
    root = tmp_path_factory.mktemp("alone")
    classifier = shutil.copytree(exported_once, root / "classification")
    code, cards = torch_alone_and_timm(searched_once, classifier)
    code = f"import os\nimport torch\n{code}"
    for kind, folder in exported.items():
        torch.save(task_of(searched[kind]).erf_images, root / kind)
        inside = (
            f"os.chdir({str(folder)!r})\n"
            f"images = torch.load({str(root / kind)!r}, weights_only=True)\n"
        )
        code += (
            f"{inside}model = torch.export.load('model.pt2').module()\n"
            f"found = [model(images[:n]) for n in (1, 3, 6)]\n"
            f"torch.save(found, {str(root / f'{kind}.found')!r})\n"
        )
        card = (folder / "README.md").read_text()
        blocks = [part.split("```")[0] for part in card.split("```python\n")[1:]]
        cards += f"{inside}with torch.inference_mode():\n"
        cards += "".join(f"    {line}\n" for block in blocks for line in block.splitlines())
    code += "print(any(name.startswith(('rfsearch', 'torchvision')) for name in sys.modules))\n"
    printed = fresh_process(code, cards, root).splitlines()
    assert printed[:4] == ["False", "(1, 16, 16)", "(8, 7)", "1"]
    return root


def test_in_a_fresh_process_torch_alone_and_timm_give_equal_scores(
    searched_once: Path, torch_alone: Path
) -> None:
    folder = torch_alone / "classification"
    expected = scores(searched_once, folder)
    for found in torch.load(folder / "scores.pt", weights_only=True):
        torch.testing.assert_close(found.detach(), expected[: len(found)])
    of_timm = torch.load(folder / "scores_of_timm.pt", weights_only=True)
    torch.testing.assert_close(of_timm.detach(), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_torch_alone_gives_the_same_for_any_batch(
    searched: dict[str, Path], exported: dict[str, Path], torch_alone: Path, kind: str
) -> None:
    images = task_of(searched[kind]).erf_images
    *parts, together = torch.load(torch_alone / f"{kind}.found", weights_only=True)
    for found in parts:
        for mine, all_of_them in zip(
            *((o,) if isinstance(o, Tensor) else o for o in (found, together)), strict=True
        ):
            torch.testing.assert_close(mine, all_of_them[: len(mine)])
    model, form = load_whole(exported[kind])
    with torch.inference_mode():
        if kind == "segmentation":
            torch.testing.assert_close(model(images), together)
        else:
            boxes, scores = DenseDetector(model, form.input_size)(images)
            torch.testing.assert_close((boxes, scores), tuple(together))


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
        assert len(theirs["boxes"]) == 100  # Of more that it might have found.
        for name, values in theirs.items():
            torch.testing.assert_close(mine[name], values)


# -- training them further --------------------------------------------------------------------


def settings(folder: Path, text: str = "") -> Path:
    file = folder / "training.toml"
    file.write_text(f"epochs = 2\nbatch_size = 8\nhorizontal_flip = 0.5\n{text}\n")
    return file


@pytest.mark.parametrize("kind", KINDS)
def test_training_begins_where_the_search_ended(
    searched: dict[str, Path], exported: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "out"
    result = train(exported[kind], searched[kind], "--out", out, "--config", settings(tmp_path))
    assert result.exit_code == 0, result.output
    metric = {"segmentation": "miou", "detection": "ap"}[kind]
    rows = epochs_of(out)
    assert list(rows[0]) == ["epoch", "loss", metric]
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert float(rows[0][metric]) == pytest.approx(value_of(searched[kind]), abs=1e-5)
    assert {path.name for path in out.iterdir()} == FILES - {"model.onnx"} | {"training.csv"}
    best = max(float(row[metric]) for row in rows)
    name = {"segmentation": "mean IoU", "detection": "AP (COCO)"}[kind]
    assert f"| validation {name} | {best:.4f} |" in (out / "README.md").read_text()
    assert f"epoch 2/2: loss {float(rows[2]['loss']):.3f}, {metric} " in result.stderr
    model, form = load_whole(out)
    assert form.input_size == (32, 32)
    task = replace(task_of(searched[kind]), statistics=Normalizer.from_shares(form.mean, form.std))
    with torch.inference_mode():
        assert task.evaluate(model).value == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_training_ends_as_one_in_one_go(
    searched: dict[str, Path], exported: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    config = TrainingConfig(
        epochs=2, learning_rate=0.01, warmup=0, batch_size=8, horizontal_flip=0.5, ema_decay=0.9,
        keep_best=True,
    )  # fmt: skip
    task = replace(task_of(searched[kind]), training=config)

    def trained(name: str, stop: int | None = None) -> tuple[TrainingResult, dict[str, Tensor]]:
        def report(epoch: int, _: float) -> None:
            if epoch == stop:
                raise KeyboardInterrupt

        whole, form = load_whole(exported[kind])
        model = network_to_train(whole, form, form.class_names, 0, from_scratch=True)
        result = task.train(model, report, Checkpoint(tmp_path / name))
        return result._replace(seconds=0), model.state_dict()

    whole, weights = trained("whole")
    assert whole.history[2].loss < whole.history[1].loss
    with pytest.raises(KeyboardInterrupt):
        trained("parts", stop=1)
    parts, other_weights = trained("parts")
    assert str(parts) == str(whole)
    assert all(torch.equal(value, other_weights[name]) for name, value in weights.items())


def test_the_same_classes_in_another_order_keep_their_weights(
    searched: dict[str, Path], exported: dict[str, Path]
) -> None:
    for kind, folder in exported.items():
        model, form = load_whole(folder)
        other = network_to_train(model, form, form.class_names[::-1], 0)
        images = task_of(searched[kind]).erf_images
        with torch.inference_mode():
            mine, theirs = (
                HEADS[kind].export(one.eval(), form.input_size)(images) for one in (model, other)
            )
        if kind == "detection":
            torch.testing.assert_close(mine[0], theirs[0])
            mine, theirs = mine[1].movedim(2, 1), theirs[1].movedim(2, 1)
        torch.testing.assert_close(mine.flip(1), theirs)


PYRAMID = (
    SPACE
    + """
[[stages]]
block = "plain"
depth = 1
width = 8
stride = 2
kernel_size = 3
[neck]
kind = "fpn"
width = 8
num_levels = 2
"""
)


def test_images_are_resized_and_the_finest_map_is_told_of(tmp_path: Path) -> None:
    """The head of a network that segments reads that of a pyramid's maps."""
    folder = write_experiment(tmp_path / "pyramid", "segmentation", trained_trials=1)
    (folder / "space.toml").write_text(PYRAMID)
    file = folder / "experiment.toml"
    file.write_text(file.read_text().replace("image_size = 32", "image_size = 32\nscale = 0.5"))
    run(folder)
    result = rfsearch("export", folder, "--out", tmp_path / "out", "--no-onnx")
    assert result.exit_code == 0, result.output
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Images are resized by 0.5 first, and all px are those of the resized image." in card
    whole, form = load_whole(tmp_path / "out")
    assert form.scale == 0.5
    fields = searched_part(whole, "segmentation").receptive_fields()
    finest = next(iter(fields))
    assert f"| output stride of the map {finest} | {fields[finest].stride} px |" in card
    assert f"| theoretical receptive field of the map {finest} | {fields[finest].size} px" in card


@pytest.mark.parametrize(
    ("kind", "new"),
    [
        ("segmentation", {"head.weight", "head.bias"}),
        (
            "detection",
            {f"head.classification_head.cls_logits.{part}" for part in ("weight", "bias")},
        ),
    ],
)
def test_other_classes_have_new_weights_where_classes_are_told_apart(
    exported: dict[str, Path], kind: str, new: set[str]
) -> None:
    model, form = load_whole(exported[kind])
    other = network_to_train(model, form, ("a", "b", "c", "d", "e"), 0)
    before, after = model.state_dict(), other.state_dict()
    assert before.keys() == after.keys()
    differ = {
        name
        for name, value in after.items()
        if value.shape != before[name].shape or not torch.equal(value, before[name])
    }
    assert differ == new


# -- mistakes ---------------------------------------------------------------------------------


def test_what_cannot_be_trained_on_is_one_line(
    searched: dict[str, Path], exported: dict[str, Path], tmp_path: Path
) -> None:
    network = exported["segmentation"]
    line = refusal(train(network, searched["detection"], "--out", tmp_path / "out"))
    assert line == (
        f"error: {searched['detection']}: must have images for segmentation, but has some for "
        "detection."
    )
    assert "nothing: cannot be read (No such f" in refusal(train(network, tmp_path / "nothing"))
    options = ("--out", tmp_path / "out", "--config", settings(tmp_path, "mixup = 0.3"))
    line = refusal(train(network, searched["segmentation"], *options))
    assert line.startswith("error: training: `mixup` must be 0.0 for segmentation, since it is f")
    colour, form = tmp_path / "colour", load_whole(network)[1]
    colour.mkdir()
    grey = searched_part(load_whole(network)[0], "segmentation").architecture
    form = replace(form, mean=(0.5,) * 3, std=(0.2,) * 3)
    save_whole(create_whole(grey, form), form, colour)
    line = refusal(train(colour, searched["segmentation"]))
    assert line.endswith("images must have 3 channels, which the network takes, but have 1.")


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
