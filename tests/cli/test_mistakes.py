"""What people's files and fingers do: each mistake is one line and exit code 2."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers import TINY_SPACE, architecture, refusal, rfsearch, stage_dict
from PIL import Image

from rfsearch.search.experiment import Experiment

EXPERIMENT = """
space = "space.toml"
[target]
min_size = 5
max_size = 6
[data]
source = "digits"
object_size = 8
canvas_size = 16
num_train = 32
num_valid = 16
"""
LAYERS = "[[layers]]\nkernel_size = 3\n[[layers]]\nkernel_size = 2\nstride = 2\n"
COCO: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
    "categories": [{"id": 1, "name": "x"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 12]}],
}
VOC = (
    "<annotation><filename>a.png</filename><size><width>40</width><height>30</height></size>"
    "<object><name>x</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>12</xmax><ymax>14</ymax>"
    "</bndbox></object></annotation>"
)


#: Keeps a process to 4 GB of data.
_LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30));"


class Mistake(NamedTuple):
    """A command line; `@` at the head of an argument stands for the folder of the files."""

    arguments: tuple[str, ...]

    @property
    def id(self) -> str:
        return " ".join(one if len(one) < 40 else f"{one[:40]}..." for one in self.arguments)


# -- files of the wrong kind ------------------------------------------------------------------

#: Contents that are right for no reader, whatever the file's name.
CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "bytes": b"\xff\xfe\x00\x01" * 50,
    "prose": b"It was a dark and stormy night.",
    "utf16": "[stem]\nkernel_size = 3\n".encode("utf-16"),
    "bom": b"\xef\xbb\xbf",
    "nul": b"\x00" * 64,
    "list": b"[]",
    "nested": b"[" * 100_000,
    "digits": b"9" * 5000,
    "picture": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01",
}
#: What is no file.
PLACES = ("absent", "folder", "pipe", "socket", "device", "dangling", "circle", "within/a/file")
#: How each command takes a file that it reads, and what the file's name ends in.
READERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("space", "{}"), "toml"),
    (("rf", "{}"), "json"),
    (("rf", "{}"), "toml"),
    (("erf", "{}"), "json"),
    (("doctor", "{}"), "json"),
    (("fit", "{}", "--target", "5:6"), "json"),
    (("fit", "@net.json", "--target", "5:6", "--checkpoint", "{}"), "safetensors"),
    (("latency", "{}"), "json"),
    (("run", "{}"), "toml"),
    (("worker", "{}"), "toml"),
    (("report", "{}"), "toml"),
    (("export", "{}", "--out", "@new", "--no-onnx"), "toml"),
    (("target", "{}"), "json"),
    (("target", "{}"), "xml"),
    (("target", "{}"), "csv"),
    (("target", "{}"), "png"),
    (("train", "{}", "--data", "@", "--no-onnx"), "json"),
    (("train", "@network", "--data", "@", "--config", "{}", "--no-onnx"), "toml"),
    (("train", "@network", "--data", "{}", "--no-onnx"), "toml"),
)


def wrong_files() -> Iterator[Mistake]:
    for arguments, ending in READERS:
        for kind in (*CONTENTS, *PLACES):
            yield Mistake(tuple(one.format(f"@{kind}.{ending}") for one in arguments))


def write_wrong_files(folder: Path) -> None:
    (folder / "within").mkdir()
    (folder / "within" / "a").touch()
    for ending in {ending for _, ending in READERS}:
        for kind, content in CONTENTS.items():
            (folder / f"{kind}.{ending}").write_bytes(content)
        (folder / f"folder.{ending}").mkdir()
        os.mkfifo(folder / f"pipe.{ending}")
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(folder / f"socket.{ending}"))
        (folder / f"device.{ending}").symlink_to("/dev/zero")
        (folder / f"dangling.{ending}").symlink_to(folder / "nothing")
        (folder / f"circle.{ending}").symlink_to(folder / f"circle.{ending}")


# -- numbers and names on the command line ----------------------------------------------------

NO_NUMBER = ("", "x", "nan", "1e3x", "--")
NO_COUNT = ("0", "-1", "1.5", "9" * 50)
NO_AMOUNT = ("inf", "-inf", "nan", "-1", "1e308", "x", "")
NO_SIZE = ("", "0", "x", "32x", "x32", "-32", "3.5", "32x32x3", "0x32", "9" * 50, "1000001", "inf")
NO_TARGET = ("", "5", "5:", ":5", "6:5", "0:5", "-1:5", "nan:5", "5:inf", "5:6:7", f"5:{'9' * 50}")
NO_DEVICE = ("", "cuda:99", "meta", "banana", "cpu:x", "vulkan", "-1")


def options() -> Iterator[Mistake]:
    rows: list[tuple[tuple[str, ...], str, tuple[str, ...]]] = [
        (("space", "toy"), "--target", NO_TARGET),
        (("rf", "@net.json"), "--target", NO_TARGET),
        (("doctor", "@net.json"), "--target", NO_TARGET),
        (("fit", "@net.json"), "--target", NO_TARGET),
        (("fit", "@net.json", "--target", "5:6"), "--max-flops-ratio", (*NO_AMOUNT[:4], "0", "x")),
        (("fit", "@net.json", "--target", "5:6"), "--levels", ("", "nowhere", "stem.0.0")),
        (("space", "toy", "--target", "10:14"), "--seed", ("-1", *NO_NUMBER)),
        (("rf", "@net.json"), "--input-size", NO_SIZE),
        (("rf", "@layers.toml"), "--input-size", NO_SIZE[:3]),
        (("erf", "@net.json"), "--input-size", NO_SIZE),
        (("doctor", "@net.json"), "--input-size", NO_SIZE),
        (("latency", "@net.json"), "--input-size", NO_SIZE),
        (("target", "@coco.json"), "--input-size", NO_SIZE),
        (("rf", "@net.json"), "--in-chans", NO_COUNT),
        (("erf", "@net.json"), "--in-chans", NO_COUNT),
        (("doctor", "@net.json"), "--in-chans", NO_COUNT),
        (("latency", "@net.json"), "--in-chans", NO_COUNT),
        (("erf", "@net.json", "--input-size", "16"), "--num-images", NO_COUNT),
        (("erf", "@net.json"), "--relative-error", (*NO_AMOUNT, "0", "1.1")),
        (("erf", "@net.json"), "--seed", ("-1", str(2**32), *NO_NUMBER)),
        (("erf", "@net.json"), "--device", NO_DEVICE),
        (("erf", "@net.json"), "--layer", ("", "nowhere", "stem.0.0")),
        (("erf", "@net.json"), "--level", ("", "P3")),
        (("erf", "@net.json"), "--images", ("", "@absent", "@coco.json", "@within")),
        (("erf", "@net.json"), "--out", ("", "a.txt", "@absent/a.png", "@within/a/b.png")),
        (("rf", "@net.json"), "--layer", ("", "nowhere")),
        (("rf", "@net.json"), "--out", ("", "a.txt", "@absent/a.png", "@within/a/b.png")),
        (("latency", "@net.json"), "--seconds", (*NO_AMOUNT, "0")),
        (("latency", "@net.json"), "--batch-size", (*NO_COUNT, "65537")),
        (("latency", "@net.json"), "--device", NO_DEVICE),
        (("run", "@"), "--device", NO_DEVICE),
        (("run", "@"), "--workers", NO_COUNT[:3]),
        (("run", "@"), "--trials-per-gpu", NO_COUNT[:3]),
        (("run", "@"), "--on", ("", "mars", "LOCAL")),
        (("run", "@"), "--gpus", ("-1", "2", "nan", "x")),
        (("run", "@"), "--heartbeat", (*NO_AMOUNT, "0")),
        (("run", "@"), "--grace", (*NO_AMOUNT, "0")),
        (("run", "@"), "--study", ("", "x")),
        (("worker", "@"), "--device", NO_DEVICE),
        (("worker", "@"), "--grace", (*NO_AMOUNT, "0")),
        (("worker", "@"), "--storage", ("", "x", "x://", "sqlite:///@absent/a.db", "http://a/b")),
        (("report", "@"), "--out", ("", "a.txt")),
        (("report",), "--storage", ("", "x", "sqlite:///nowhere.db", "oracle://a/b")),
        (("export", "@", "--out", "@new", "--no-onnx"), "--trial", ("", "worst", "-1", "1.5")),
        (("target", "@coco.json"), "--format", ("", "kitti", "COCO")),
        (("target", "@coco.json"), "--resize", ("", "crop")),
        (("target", "@coco.json"), "--levels", ("", "0", "4,x", "4,4", "-4", "4,,8")),
        (("target", "@coco.json"), "--context", (*NO_AMOUNT[:4], "0.5", "x")),
        (("target", "@coco.json"), "--class", ("", "y")),
        (("target", "@coco.json"), "--images", ("", "@absent", "@coco.json")),
        (("target", "@mask.png"), "--background", ("", "x", "1.5")),
        (("target", "@mask.png"), "--ignored", ("", "x")),
        (("target", "@coco.json"), "--picture", ("", "a.txt", "@absent/a.png")),
        (("train", "@network", "--data", "@", "--no-onnx"), "--epochs", NO_COUNT),
        (("train", "@network", "--data", "@", "--no-onnx"), "--workers", ("-1", "1.5", "9999")),
        (("train", "@network", "--data", "@", "--no-onnx"), "--device", NO_DEVICE),
        (("train", "@network", "--data", "@within", "--no-onnx"), "--valid-share", NO_AMOUNT),
        (("train", "@network", "--data", "@within", "--no-onnx"), "--split-seed", ("-1", "x")),
    ]
    for arguments, option, values in rows:
        for value in values:
            yield Mistake((*arguments, f"{option}={value}"))
    pairs = ("1 0.5", "-0.1 1", "0 1.1", "nan 1", "0 inf", "x y")
    yield from (Mistake(("target", "@coco.json", "--quantiles", *pair.split())) for pair in pairs)


def others() -> Iterator[Mistake]:
    commands = "run worker target space rf erf doctor fit latency report dashboard export train"
    yield from (Mistake((command, "--no-such-option")) for command in commands.split())
    yield from (Mistake((command, "a", "b", "c")) for command in commands.split())
    yield from (Mistake(line) for line in (("--no-such-option",), ("serach",), ("",)))
    for name in ("", "resnet1", "x" * 300, "x" * 5000, "a/b", "ré\u0000sn", "$x$", "\udcff"):
        yield from (Mistake((command, name)) for command in ("space", "rf", "run", "target"))
    yield Mistake(("rf", "@net.json", "--json", "--csv"))
    yield Mistake(("run", "@", "--workers", "2", "--trials-per-gpu", "2"))
    yield Mistake(("run", "@", "--on", "ray"))
    yield Mistake(("report",))
    yield Mistake(("report", "@"))
    yield Mistake(("dashboard", "@", "--port", "99999999"))
    yield Mistake(("export", "@", "--out", "@within"))


# -- files whose contents are wrong -----------------------------------------------------------


def with_value(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of nested data with another value at a place; the key is left out for `...`."""
    if not path:
        return value
    copy: Any = dict(data) if isinstance(data, dict) else list(data)
    first, *rest = path
    if not rest and value is ...:
        del copy[first]
    else:
        old = copy.get(first, {}) if isinstance(copy, dict) else copy[first]
        copy[first] = with_value(old, tuple(rest), value)
    return copy


NOT_A_COUNT: tuple[Any, ...] = (0, -1, 1.5, "3", True, [], {}, 10**50)
CHANGES: dict[str, dict[tuple[Any, ...], tuple[Any, ...]]] = {
    "space.toml": {
        ("stem",): (..., 3, []),
        ("stem", "kernel_size"): (*NOT_A_COUNT, 2, [3, 3]),
        ("stem", "stride"): NOT_A_COUNT,
        ("stem", "width"): NOT_A_COUNT,
        ("stem", "colour"): (1,),
        ("stages",): (..., [], {}, 3),
        ("stages", 0, "block"): ("banana", "", 3, []),
        ("stages", 0, "depth"): (*NOT_A_COUNT, 10**6),
        ("stages", 0, "kernel_size"): (*NOT_A_COUNT, 4),
        ("stages", 0, "stride"): (*NOT_A_COUNT, 10**9),
        ("stages", 0, "per_block"): (["colour"], 3),
        ("neck",): (3, {"kind": "banana"}),
    },
    "experiment.toml": {
        ("space",): (..., "", 3, "nowhere", "nowhere.toml", "."),
        ("target", "min_size"): (..., 0, -1, "5", float("nan"), float("inf"), 10**50, 7),
        ("target", "theoretical"): ([5], [6, 5], "on", [-1, 5], [0, float("nan")]),
        ("target", "max_gridding"): (1, -1, "on"),
        ("target", "max_params_m"): (0, "1"),
        ("data",): (..., 3),
        ("data", "source"): (..., "banana", 3),
        ("data", "object_size"): NOT_A_COUNT,
        ("data", "canvas_size"): (*NOT_A_COUNT, 4),
        ("data", "num_train"): (*NOT_A_COUNT, 1),
        ("data", "seed"): (-1, 2**32, 1.5),
        ("training",): (3,),
        ("training", "optimizer"): ("banana", "", "fusedadam", "bnbadam", "adahessian", 3),
        ("training", "scheduler"): ("plateau", "banana", "", 3),
        ("training", "learning_rate"): (0, -1, 1e308, float("inf"), float("nan"), "1", 10**50),
        ("training", "weight_decay"): (-1, 1e308, float("inf"), float("nan"), "1"),
        ("training", "batch_size"): (*NOT_A_COUNT, 1),
        ("training", "epochs"): (0, -1, 1.5, 10**50),
        ("training", "seconds"): (0, -1, float("inf"), float("nan"), 1e308),
        ("training", "warmup"): (1, -1, float("nan")),
        ("training", "mixup"): (-1, float("inf"), 1e308),
        ("training", "max_shift"): (-1, 16, 10**50),
        ("training", "min_scale"): (0, 1.5),
        ("training", "loader_workers"): (-1, 10**6),
        ("search", "trained_trials"): NOT_A_COUNT,
        ("search", "sampler"): ("banana", "", "TPE"),
        ("search", "pruner"): ("banana", 3),
        ("search", "objectives"): ([], ["banana"], ["latency_ms"], ["score", "score"]),
        ("search", "seed"): (-1, 2**32),
        ("search", "controls"): (-1, 10**6),
        ("baselines",): ("nowhere.toml", ["banana"], [""], 3),
        ("colour",): (3,),
    },
    "net.json": {
        ("stem",): (..., None, [], 3),
        ("stem", "kernel_size"): (*NOT_A_COUNT, None, 2),
        ("stem", "width"): (*NOT_A_COUNT, None),
        ("stages",): (..., None, [], {}),
        ("stages", 0, "block"): ("banana", None),
        ("stages", 0, "blocks"): (..., [], None),
        ("stages", 0, "blocks", 0, "kernel_size"): (*NOT_A_COUNT, 2),
        ("stages", 0, "blocks", 0, "dilation"): (0, -1, 10**50),
        ("stages", 0, "stride"): (0, 10**50),
        ("neck",): (3, {"kind": "banana"}),
        ("colour",): (1,),
    },
    "layers.toml": {
        ("layers",): ([], {}, 3),
        ("layers", 0, "kernel_size"): (*NOT_A_COUNT, ...),
        ("layers", 1, "stride"): NOT_A_COUNT,
        ("layers", 1, "padding"): (-1, 1.5, 10**50),
        ("layers", 1, "colour"): (1,),
    },
    "coco.json": {
        ("images",): (..., None, [], {}, 3),
        ("images", 0, "id"): (..., 2, None, []),
        ("images", 0, "width"): ("x", -40, 40.5, [40], {}, "9" * 400),
        ("images", 0, "height"): ("30 px", -1, 1e300 * 1e10),
        ("categories",): (None, 3),
        ("annotations",): (..., None, [], {}, [3]),
        ("annotations", 0, "image_id"): (..., 2, None, []),
        ("annotations", 0, "bbox"): (..., [], [1, 2, 3], [2, 3, 0, 0], [2, 3, -5, 5], "x", None),
    },
}  # fmt: skip
#: The command that reads each.
READ_BY: dict[str, tuple[str, ...]] = {
    "space.toml": ("space",),
    "experiment.toml": ("run", "--device", "cpu"),
    "net.json": ("rf",),
    "layers.toml": ("rf",),
    "coco.json": ("target",),
}


def valid_data() -> dict[str, Any]:
    return {
        "space.toml": tomllib.loads(TINY_SPACE),
        "experiment.toml": tomllib.loads(EXPERIMENT),
        "net.json": architecture(stage_dict(kernels=(3, 3))).to_dict(),
        "layers.toml": tomllib.loads(LAYERS),
        "coco.json": COCO,
    }


def toml(value: Any) -> str:
    """A value of TOML; tables are inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value) if isinstance(value, bool | str) else repr(value)


class WrongContent(NamedTuple):
    """A file that is as it should be but for one value."""

    file: str
    path: tuple[Any, ...]
    value: Any

    @property
    def id(self) -> str:
        value = "gone" if self.value is ... else repr(self.value)
        return " ".join(map(str, (self.file, *self.path, "=", value)))

    @property
    def text(self) -> str:
        data = with_value(valid_data()[self.file], self.path, self.value)
        if self.file.endswith(".json"):
            return json.dumps(data)
        return "".join(f"{key} = {toml(one)}\n" for key, one in data.items())


def wrong_contents() -> Iterator[WrongContent]:
    for file, changes in CHANGES.items():
        for path, values in changes.items():
            yield from (WrongContent(file, path, value) for value in values)


# -- the tests --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, network_folder: Path) -> Path:
    """What the command lines name."""
    folder = tmp_path_factory.mktemp("mistakes")
    write_wrong_files(folder)
    (folder / "space.toml").write_text(TINY_SPACE)
    (folder / "experiment.toml").write_text(EXPERIMENT)
    (folder / "layers.toml").write_text(LAYERS)
    (folder / "net.json").write_text(json.dumps(valid_data()["net.json"]))
    (folder / "coco.json").write_text(json.dumps(COCO))
    (folder / "network").symlink_to(network_folder)
    Image.new("L", (8, 8)).save(folder / "mask.png")
    return folder


MISTAKES = [*wrong_files(), *options(), *others()]


@pytest.mark.parametrize("mistake", MISTAKES, ids=[one.id for one in MISTAKES])
def test_a_command_line(files: Path, mistake: Mistake) -> None:
    refusal(rfsearch(*(one.replace("@", f"{files}/") for one in mistake.arguments)))


#: No process can be given a NUL.
SOME = [one for one in MISTAKES[::19] if not any("\0" in argument for argument in one.arguments)]


@pytest.mark.slow
@pytest.mark.parametrize("mistake", SOME, ids=[one.id for one in SOME])
def test_a_process_of_its_own_ends_soon_and_needs_little_memory(
    files: Path, mistake: Mistake
) -> None:
    arguments = [one.replace("@", f"{files}/") for one in mistake.arguments]
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{_LIMITED} from rfsearch.cli.main import main; main()",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=120,  # Many times what it takes: nothing hangs.
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].strip()


WRONG_CONTENTS = list(wrong_contents())


@pytest.mark.parametrize("wrong", WRONG_CONTENTS, ids=[one.id for one in WRONG_CONTENTS])
def test_the_content_of_a_file(tmp_path: Path, wrong: WrongContent) -> None:
    (tmp_path / "space.toml").write_text(TINY_SPACE)
    file = tmp_path / wrong.file
    file.write_text(wrong.text)
    line = refusal(rfsearch(*READ_BY[wrong.file], file))
    assert wrong.file in line or wrong.value == "nowhere.toml"


@pytest.mark.parametrize("file", list(READ_BY))
def test_the_files_without_a_mistake_are_read(tmp_path: Path, file: str) -> None:
    data = valid_data()[file]
    (tmp_path / "space.toml").write_text(TINY_SPACE)
    (tmp_path / file).write_text(WrongContent(file, (), data).text)
    command, *_ = READ_BY[file]
    if command == "run":
        Experiment.load(tmp_path / file, "cpu")
    else:
        assert rfsearch(command, tmp_path / file).exit_code == 0


def test_they_are_many_and_different() -> None:
    assert len(MISTAKES) == len(set(MISTAKES))
    assert len(MISTAKES) + len(WRONG_CONTENTS) > 250
