"""What `--device` means."""

from __future__ import annotations

DEVICE_HELP = "cpu, cuda, ...: by default CUDA where there is a device."


def check_device(device: str | None) -> None:
    """Refuse a device that is not here.

    Raises:
        ValueError: If torch cannot use it; it says why.
    """
    import torch

    if device is None:
        return
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {device} cannot be used here ({reason}).") from None


def chosen_device(device: str | None) -> str:
    """The device of `--device`, or CUDA where there is one, else the CPU.

    Raises:
        ValueError: If torch cannot use it.
    """
    import torch

    check_device(device)
    return device or ("cuda" if torch.cuda.is_available() else "cpu")
