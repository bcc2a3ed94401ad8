"""Plans of nnU-Net, beside what its own package builds from them."""

from __future__ import annotations

import gzip
import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from helpers import refusal, rfsearch
from PIL import Image

from rfsearch.basics.nifti import read_nifti
from rfsearch.diagnosis.nnunet import diagnose_plan, objects_in
from rfsearch.models.nnunet import read_plan
from rfsearch.target.target import ScaleTarget
from rfsearch.trace.trace import trace_receptive_field

if TYPE_CHECKING:
    from pathlib import Path

STRIDES = [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]]
KERNELS = [[1, 3, 3], *[[3, 3, 3]] * 5]
CONV_3D = {
    "n_stages": 6,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": KERNELS,
    "strides": STRIDES,
    "n_conv_per_stage": [2] * 6,
    "n_conv_per_stage_decoder": [2] * 5,
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
_RESIDUAL = {key: value for key, value in CONV_3D.items() if key != "n_conv_per_stage"}
RESIDUAL_3D = _RESIDUAL | {
    "n_blocks_per_stage": [1, 3, 4, 6, 6, 6],
    "n_conv_per_stage_decoder": [1] * 5,
}
CONV_2D = CONV_3D | {
    "n_stages": 4,
    "features_per_stage": [8, 16, 32, 64],
    "conv_op": "torch.nn.modules.conv.Conv2d",
    "kernel_sizes": [[3, 3]] * 4,
    "strides": [[1, 1], *[[2, 2]] * 3],
    "n_conv_per_stage": [2] * 4,
    "n_conv_per_stage_decoder": [2] * 3,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
}


def architecture(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    named = f"dynamic_network_architectures.architectures.unet.{name}"
    return {"architecture": {"network_class_name": named, "arch_kwargs": arguments}}


VOLUME = {"patch_size": [64, 128, 128], "spacing": [2.5, 0.8, 0.8]}
PLAN: dict[str, Any] = {
    "transpose_forward": [0, 1, 2],
    "foreground_intensity_properties_per_channel": {"0": {}},
    "configurations": {
        "2d": {
            "patch_size": [64, 64],
            "spacing": [0.8, 0.8],
            **architecture("PlainConvUNet", CONV_2D),
        },
        "3d_fullres": VOLUME | architecture("PlainConvUNet", CONV_3D),
        "3d_residual": {
            "inherits_from": "3d_fullres",
            **architecture("ResidualEncoderUNet", RESIDUAL_3D),
        },
        "3d_before": VOLUME
        | {
            "UNet_class_name": "PlainConvUNet",
            "UNet_base_num_features": 32,
            "unet_max_num_features": 320,
            "n_conv_per_stage_encoder": [2] * 6,
            "n_conv_per_stage_decoder": [2] * 5,
            "pool_op_kernel_sizes": STRIDES,
            "conv_kernel_sizes": KERNELS,
        },
    },
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "nnUNetPlans.json"
    file.write_text(json.dumps(PLAN))
    return file


#: Parameters and theoretical fields of what `dynamic_network_architectures` 0.4.4 builds, with
#: one channel and two classes and all outputs of deep supervision.
BUILT = {
    "3d_fullres": (30_703_498, (143, 319, 319)),
    "3d_residual": (101_857_674, (543, 1441, 1441)),
    "3d_before": (30_703_498, (143, 319, 319)),
}


@pytest.mark.parametrize("name", BUILT)
def test_networks_are_those_of_the_package(path: Path, name: str) -> None:
    plan = read_plan(path, name)
    with torch.device("meta"):
        network = plan.build()
    parameters, fields = BUILT[name]
    assert sum(one.numel() for one in network.parameters()) == parameters
    traced = trace_receptive_field(network, plan.patch_size).output
    assert tuple(map(max, traced.sizes)) == fields


def test_a_network_of_slices_runs_with_weights(path: Path) -> None:
    plan = read_plan(path, "2d")
    assert plan.build()(torch.zeros(2, 1, 64, 32)).shape == (2, 2, 64, 32)
    assert plan.multiples == (8, 8)


def test_remedies_hold(path: Path) -> None:
    plan = read_plan(path, "2d")
    found = diagnose_plan(plan, ScaleTarget(40, 90, quiet=True))
    assert found.axes["height"].field < 135
    by_kind = {one.kind: one for one in found.findings if "height" in one.message}
    assert {*by_kind} == {"rf_too_small", "erf_too_small", "patch_too_small"}
    remedy = by_kind["rf_too_small"].remedy
    deeper = plan.deeper((2, 2))
    assert remedy.startswith("Set n_stages to 5, with strides [2, 2] in the last: the field is")
    traced = trace_receptive_field(deeper.build(), 64).output.height.size
    assert f"then {traced} px." in remedy
    assert by_kind["patch_too_small"].remedy.startswith("Set patch_size[0] to 96 (a multiple of 8")
    small = diagnose_plan(plan, ScaleTarget(4, 8, quiet=True)).findings
    assert {one.kind for one in small} == {"erf_too_large"}
    assert all("Set strides[" in one.remedy or "Set n_stages" in one.remedy for one in small)


def write_nifti(path: Path, values: np.ndarray[Any, Any], spacing: tuple[float, ...]) -> Path:
    """A file with axes x, y, z, of values and spacing `(z, y, x)`."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *values.shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, *spacing[::-1], 1, 1, 1, 1)
    struct.pack_into("<3f", header, 108, 352, 1, 0)
    header[344:348] = b"n+1\0"
    whole = bytes(header) + values.astype("<i2").tobytes()
    path.write_bytes(gzip.compress(whole) if path.suffix == ".gz" else whole)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_objects_of_volumes_at_the_spacing_of_the_plan(
    path: Path, tmp_path: Path, name: str
) -> None:
    mask = np.zeros((20, 30, 40), int)
    mask[2:6, 3:13, 4:24], mask[10:14, 20:30, 0:20] = 1, 2
    folder = tmp_path / "labels"
    folder.mkdir()
    file = write_nifti(folder / name, mask, (5.0, 1.6, 0.8))
    assert np.array_equal(read_nifti(file).values, mask)
    sizes = {axis: one.max_size for axis, one in objects_in(folder, read_plan(path)).items()}
    assert sizes == pytest.approx({"depth": 8, "height": 20, "width": 20}, rel=1e-6)
    slices = objects_in(folder, read_plan(path, "2d"))
    assert {axis: one.min_size for axis, one in slices.items()} == pytest.approx(
        {"height": 20, "width": 20}, rel=1e-6
    )
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"a\.nii.*: not a NIfTI file"):
        objects_in(folder, read_plan(path))


def test_the_command(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    mask = np.zeros((64, 64), np.uint8)
    mask[8:28, 8:28] = 1
    Image.fromarray(mask).save(folder / "a.png")
    arguments = ("doctor", path, "--masks", folder, "--configuration", "2d")
    data = json.loads(rfsearch(*arguments, "--json").stdout)
    assert data["axes"]["width"] == {
        "objects": [20, 20],
        "rf": 79,
        "erf_expected": data["axes"]["height"]["erf_expected"],
        "patch": 64,
    }
    text = rfsearch(*arguments).stdout
    assert "2d, patches of 64x64 px" in text
    assert f"findings  {len(data['findings']) or 'none'}" in text
    said = refusal(rfsearch("doctor", path, "--masks", folder))
    assert "its masks are images, but 3d_fullres is of volumes" in said
    assert "One of --masks and --target" in refusal(rfsearch("doctor", path))
    assert "are for nnU-Net's plans" in refusal(rfsearch("doctor", "resnet18", "--masks", folder))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"patch_size": [64]}, "patch_size must have 2 or 3 sides, but has 1"),
        ({"inherits_from": "2d"}, "cannot inherit from '2d'"),
        ({"patch_size": [64, float("inf")]}, "patch_size must be whole numbers"),
        ({"spacing": [1, 0]}, "spacing must be 2 positive numbers"),
        (architecture("Primus", CONV_2D), "the network must be PlainConvUNet or Residual"),
        (architecture("PlainConvUNet", CONV_2D | {"strides": 2}), "strides must be of 2 to 12"),
        (
            architecture("PlainConvUNet", CONV_2D | {"n_conv_per_stage": [2, 2]}),
            "n_conv_per_stage must be 4 whole numbers",
        ),
        (
            architecture("PlainConvUNet", CONV_2D | {"nonlin": "os.system"}),
            "nonlin must be one of LeakyReLU",
        ),
        (
            architecture("PlainConvUNet", CONV_2D | {"kernel_sizes": [[3, 3, 3]] * 4}),
            "kernel_sizes, stage 0 must be 2 whole numbers",
        ),
    ],
)
def test_plans_that_are_none(path: Path, change: dict[str, Any], reason: str) -> None:
    every = PLAN["configurations"] | {"2d": PLAN["configurations"]["2d"] | change}
    path.write_text(json.dumps(PLAN | {"configurations": every}))
    said = refusal(rfsearch("doctor", path, "--target", "4:9", "--configuration", "2d"))
    assert f"{path}: configurations.2d" in said
    assert reason in said
