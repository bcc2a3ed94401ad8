from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from experiments_on_folders import HAS_ONNX
from helpers import architecture, refusal, rfsearch
from studies import open_storage, open_study, stored_study
from torch import Tensor, nn

from rfsearch.basics.atomic import NotWrittenError
from rfsearch.export import formats as export_formats
from rfsearch.export.export import Network, check_empty, write_network
from rfsearch.export.formats import export_program
from rfsearch.export.trained_network import trained_network
from rfsearch.network.network_folder import InputFormat, create_network, load_network
from rfsearch.search.experiment import Experiment

needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="needs rfsearch[export]")
plain_cards = pytest.mark.usefixtures("plain_cards")
FILES = {"README.md", "architecture.json", "config.json", "erf.png", "model.pt2"}
FILES |= {"model.safetensors"} | ({"model.onnx"} if HAS_ONNX else set())
#: Trials of the experiment: the best one, its duplicate, one pruned, one whose weights are gone.
BEST, DUPLICATE, PRUNED, LOST = 0, 10, 1, 6


def images(folder: Path) -> Tensor:
    """The experiment's validation images, normalised."""
    return trained_network(Experiment.load(folder, "cpu"), stored_study(folder)).images


def scores(folder: Path, exported: Path) -> Tensor:
    with torch.inference_mode():
        return load_network(exported)[0](images(folder))


def fresh_process(code: str, with_rfsearch: str, folder: Path) -> str:
    """Run code in an interpreter that finds torch and timm, and rfsearch only for the second."""
    blocked = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('rfsearch', 'optuna', 'pydantic'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "try:\n    import rfsearch\nexcept ModuleNotFoundError:\n    print('blocked')\n"
    )
    here = str(Path(export_formats.__file__).parents[2])
    found = f"sys.meta_path.pop(0)\nsys.path.insert(0, {here!r})\n"
    run = subprocess.run(
        [sys.executable, "-c", blocked + code + found + with_rfsearch],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    first, *rest = run.stdout.splitlines()
    assert first == "blocked"
    return "\n".join(rest)


# -- what is written --------------------------------------------------------------------------


def test_the_command_writes_and_says_what_it_checked(searched: Path, tmp_path: Path) -> None:
    out = tmp_path / "some" / "out"
    result = rfsearch("export", searched, "--trial", str(BEST), "--out", out, "--no-onnx")
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == FILES - {"model.onnx"}
    (checked,) = (line for line in result.stdout.splitlines() if "scores within" in line)
    assert checked.startswith("model.pt2 ")
    assert checked.endswith("of the module's on 8 images")
    assert result.stdout.splitlines()[-1] == f"How to load it stands in {out / 'README.md'}."
    card = (out / "README.md").read_text()
    assert "model.onnx" not in card
    assert "| latency, batch of 32 |" in card
    assert (out / "erf.png").read_bytes().startswith(b"\x89PNG")


def test_all_files_are_there(exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == FILES
    assert (exported / "erf.png").read_bytes().startswith(b"\x89PNG")
    modes = {path.stat().st_mode for path in exported.iterdir()}
    assert len(modes) == 1


def test_the_network_classifies_as_its_trial_did(searched: Path, exported: Path) -> None:
    task = Experiment.load(searched, "cpu").task
    model, form = load_network(exported)
    pixels = task.data.valid_images.float() / 255
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (form.mean, form.std))
    with torch.inference_mode():
        right = model((pixels - mean) / std).argmax(1) == task.data.valid_labels
    value = stored_study(searched).trials[BEST].value
    assert right.double().mean().item() == pytest.approx(value)
    assert form.class_names == ("bright", "dark")
    assert form.input_size == (16, 16)


def test_the_architecture_is_the_trials(searched: Path, exported: Path) -> None:
    stored = json.loads(stored_study(searched).trials[BEST].user_attrs["architecture"])
    assert json.loads((exported / "architecture.json").read_text()) == stored
    result = rfsearch("rf", exported / "architecture.json", "--input-size", "16")
    assert result.exit_code == 0, result.output


def test_the_card_has_the_numbers(searched: Path, exported: Path) -> None:
    trial = stored_study(searched).trials[BEST]
    card = (exported / "README.md").read_text()
    assert f"| validation accuracy | {trial.value:.4f} |" in card
    assert f"| theoretical receptive field | {trial.user_attrs['trf_size']} px |" in card
    assert f"| ERF size | {trial.user_attrs['erf_trained']} px (95% of the gradient" in card
    assert "Trial 0 of the study `bright`" in card
    assert "![Effective receptive field](erf.png)" in card


def test_best_is_the_best_and_a_duplicate_has_the_weights_of_its_original(searched: Path) -> None:
    experiment = Experiment.load(searched, "cpu")
    study = stored_study(searched)
    best = trained_network(experiment, study)
    assert best.origin.startswith(f"Trial {BEST} ")
    duplicate = trained_network(experiment, study, DUPLICATE)
    state = best.model.state_dict()
    for name, value in duplicate.model.state_dict().items():
        assert torch.equal(value, state[name])


# -- loading it again -------------------------------------------------------------------------


def torch_alone_and_timm(searched: Path, exported: Path) -> tuple[str, str]:
    """What a fresh process runs: without rfsearch, and with it; the results are files."""
    torch.save(images(searched), exported / "inputs.pt")
    torch_alone = (
        f"os.chdir({str(exported)!r})\n"
        'model = torch.export.load("model.pt2").module()\n'
        'images = torch.load("inputs.pt", weights_only=True)\n'
        "torch.save([model(images[:n]) for n in (1, 3, 8)], 'scores.pt')\n"
    )
    by_timm = (
        f"os.chdir({str(exported)!r})\n"
        "import timm\n"
        "import rfsearch.network.timm_entry\n"
        'images = torch.load("inputs.pt", weights_only=True)\n'
        'model = timm.create_model("local-dir:.", pretrained=True).eval()\n'
        'torch.save(model(images), "scores_of_timm.pt")\n'
        'print(timm.data.resolve_model_data_config(model)["input_size"])\n'
        'other = timm.create_model("local-dir:.", pretrained=True, num_classes=7)\n'
        "print(tuple(other(images).shape))\n"
        'maps = timm.create_model("local-dir:.", pretrained=True, features_only=True,\n'
        "    out_indices=(0,))(images)\n"
        "print(len(maps))\n"
    )
    return torch_alone, by_timm


@needs_onnx
def test_onnxruntime_gives_equal_scores_for_any_batch(searched: Path, exported: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(exported / "model.onnx")
    inputs, expected = images(searched), scores(searched, exported)
    for count in (1, 3, 8):
        (found,) = session.run(["scores"], {"images": inputs[:count].numpy()})
        np.testing.assert_allclose(found, expected[:count].numpy(), rtol=1e-4, atol=1e-5)


@needs_onnx
def test_the_onnx_file_is_whole(exported: Path) -> None:
    import onnx

    onnx.checker.check_model(onnx.load(exported / "model.onnx"), full_check=True)
    assert [path.name for path in exported.glob("*.data")] == []


def test_the_files_hold_nobodys_images(exported: Path) -> None:
    program = torch.export.load(exported / "model.pt2")
    (inputs,) = program.example_inputs[0]
    assert not inputs.any()


def test_the_files_hold_no_paths_of_this_machine(exported: Path) -> None:
    here = str(Path(export_formats.__file__).parents[1]).encode()
    with zipfile.ZipFile(exported / "model.pt2") as archive:
        contents = [archive.read(name) for name in archive.namelist()]
    contents += [path.read_bytes() for path in exported.iterdir() if path.suffix != ".pt2"]
    assert not any(here in content or b"site-packages" in content for content in contents)


# -- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trial", "message"),
    [
        ("99", "`0 <= trial < 12` must hold, the trials of the study, but got 99."),
        ("-1", "--trial must be a trial's number or best, but got '-1'."),
        ("first", "--trial must be a trial's number or best, but got 'first'."),
        (str(PRUNED), f"Trial {PRUNED} was not trained to the end: it is pruned, theoretical RF"),
        (str(LOST), f"the weights of trial {LOST} are not here; only those of the best 2 trials"),
    ],
)
def test_trials_without_a_network(
    searched: Path, tmp_path: Path, trial: str, message: str
) -> None:
    out = tmp_path / "out"
    result = rfsearch("export", searched, f"--trial={trial}", "--out", out, "--no-onnx")
    assert message in refusal(result)
    assert not out.exists()


def test_a_study_without_a_trained_trial(searched: Path, tmp_path: Path) -> None:
    (searched / "study.db").unlink()
    options = ("--out", tmp_path / "out", "--no-onnx")
    line = refusal(rfsearch("export", searched, *options))
    assert "study.db: there is no study yet; `rfsearch run` makes one." in line
    study = open_study(Experiment.load(searched, "cpu"))
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    line = refusal(rfsearch("export", searched, *options))
    assert f"{searched}: no candidate has been trained to the end." in line


def test_a_database_of_another_experiment(searched: Path, tmp_path: Path) -> None:
    file = searched / "experiment.toml"
    file.write_text(file.read_text().replace("epochs = 2", "epochs = 3"))
    line = refusal(rfsearch("export", searched, "--out", tmp_path / "out", "--no-onnx"))
    assert "holds trials of another experiment, whose training differ" in line
    (searched / "study.db").write_text("nonsense")
    line = refusal(rfsearch("export", searched, "--out", tmp_path / "out", "--no-onnx"))
    assert "study.db: not a usable Optuna database" in line


@plain_cards
def test_a_study_that_is_stored_elsewhere(searched: Path, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    copy = optuna.create_study(
        study_name="../moved", storage=open_storage(address), direction="maximize"
    )
    study = stored_study(searched)
    for key, value in study.user_attrs.items():
        copy.set_user_attr(key, value)
    copy.add_trials(study.trials)
    (searched / "study.db").unlink()
    out = tmp_path / "out"
    options = ("--storage", address, "--out", out, "--no-onnx")
    line = refusal(rfsearch("export", searched, *options))
    assert "`--study` must be one of ../moved, but got 'bright'." in line
    result = rfsearch("export", searched, "--study", "../moved", *options)
    assert result.exit_code == 0, result.output
    assert "Trial 0 of the study `../moved`" in (out / "README.md").read_text()
    assert "must go with `--storage`" in refusal(
        rfsearch("export", searched, "--study", "a", "--out", tmp_path / "no", "--no-onnx")
    )
    nowhere = ("--storage", f"sqlite:///{tmp_path / 'no.db'}", "--out", tmp_path / "no")
    assert "there is no study yet" in refusal(rfsearch("export", searched, *nowhere, "--no-onnx"))
    assert not (tmp_path / "no.db").exists()


def test_a_folder_that_is_not_empty(searched: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("mine")
    line = refusal(rfsearch("export", searched, "--out", out))
    assert line == f"error: {out}: must be a new or an empty folder, but is not empty."
    assert [path.name for path in out.iterdir()] == ["precious"]
    line = refusal(rfsearch("export", searched, "--out", out / "precious"))
    assert "must be a new or an empty folder" in line


def test_a_target_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file/out", "x" * 300):
        with pytest.raises(NotWrittenError, match=r": cannot be written \((Not a dir|File name)"):
            write_network(trained_network_of_noise(), tmp_path / place, onnx=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_export_has_left_is_no_obstacle(tmp_path: Path) -> None:
    left = tmp_path / "out" / ".writing-0123" / "new"
    left.mkdir(parents=True)
    (left / "config.json").touch()
    os.utime(left.parent, (time.time() - 5,) * 2)
    check_empty(tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())


def test_a_missing_extra(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_formats, "_ONNX_PACKAGES", ("onnx_of_tomorrow", "json"))
    line = refusal(rfsearch("export", searched, "--out", tmp_path / "out"))
    assert line == (
        "error: model.onnx needs onnx_of_tomorrow: pip install 'rfsearch[export]', "
        "or leave it out with --no-onnx."
    )


def test_an_export_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rfsearch.export.export.measure_latency", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_network(trained_network_of_noise(), tmp_path / "out", onnx=False)
    assert not (tmp_path / "out").exists()


@plain_cards
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("It differs by 0.1.\nFar too much."), r"It differs by 0\.1\."),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    ],
)
def test_a_format_that_fails_is_left_out_and_the_others_are_written(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fail(model: object, images: object, file: Path, *_: object) -> float:
        file.write_text("half")
        raise error

    monkeypatch.setattr("rfsearch.export.export.export_program", fail)
    with pytest.warns(UserWarning, match=rf"^model\.pt2 is left out: {reason}$"):
        result = rfsearch("export", searched, "--out", tmp_path / "out", "--no-onnx")
    assert result.exit_code == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES - {
        "model.pt2",
        "model.onnx",
    }
    assert "model.pt2" not in result.stdout
    assert "model.pt2" not in (tmp_path / "out" / "README.md").read_text()
    load_network(tmp_path / "out")


@plain_cards
def test_a_format_that_is_left_out_does_not_stay_of_other_weights(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rfsearch.export.export.export_program", lambda *_: 1 / 0)
    with pytest.warns(UserWarning, match="left out"):
        write_network(trained_network_of_noise(), exported, onnx=False)
    assert {path.name for path in exported.iterdir()} == FILES - {"model.pt2", "model.onnx"}


@plain_cards
def test_a_network_that_sees_nothing_is_written_without_its_erf(tmp_path: Path) -> None:
    network = trained_network_of_noise()
    for weights in network.model.parameters():
        nn.init.zeros_(weights)
    with pytest.warns(UserWarning, match=r"^erf\.png is left out: "):
        assert set(write_network(network, tmp_path / "out", onnx=False)) == {"model.pt2"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "erf.png" not in card
    assert "# A network found by an architecture search" in card


def trained_network_of_noise() -> Network:
    form = InputFormat((16, 16), (0.5,), (0.2,), ("a", "b"))
    model = create_network(architecture(), form)
    return Network(model, form, torch.randn(4, 1, 16, 16), "Noise.", {})


def test_scores_that_differ_are_an_error(tmp_path: Path) -> None:
    class Undecided(nn.Module):
        """Traced as the identity, but not one when it runs."""

        def forward(self, x: Tensor) -> Tensor:
            return x if torch.compiler.is_exporting() else x + 1e-3

    with pytest.raises(RuntimeError, match=r"^What m\.pt2 gives must be what the module"):
        export_program(Undecided(), torch.rand(2, 1), tmp_path / "m.pt2")


@pytest.mark.parametrize(("rounding", "passes"), [(7e-8, True), (1e-3, False)])
def test_roots_are_judged_before_the_root(tmp_path: Path, rounding: float, passes: bool) -> None:
    """7e-8 rounded to 0 makes a difference of 2.6e-4 after the root."""

    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * 0 + (0.0 if torch.compiler.is_exporting() else rounding)).sqrt()

    arguments = (Root(), torch.rand(2, 1), tmp_path / "m.pt2", ("scores",))
    with pytest.raises(RuntimeError, match=r"differs by 0\.000264575 for 2|differs by 0\.03162"):
        export_program(*arguments)
    if passes:
        assert export_program(*arguments, roots=("scores",)) == pytest.approx(rounding**0.5)
    else:
        with pytest.raises(RuntimeError, match=r"differs by 0\.001 \(squared\) for 2 image"):
            export_program(*arguments, roots=("scores",))
