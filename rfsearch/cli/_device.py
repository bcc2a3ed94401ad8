"""What `--device` means."""

from __future__ import annotations

DEVICE_HELP = "cpu, cuda, ...: by default CUDA where there is a device."


def chosen_device(device: str | None) -> str:
    """The device of `--device`, or CUDA where there is one, else the CPU.

    Raises:
        ValueError: If torch cannot use it.
    """
    import torch

    from rfsearch.measure.device import check_device

    check_device(device)
    return device if device is not None else ("cuda" if torch.cuda.is_available() else "cpu")
