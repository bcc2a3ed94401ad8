"""Whether torch can compute on a device."""

from __future__ import annotations

import torch


def check_device(device: torch.device | str | None) -> None:
    """Try a device that somebody names.

    Args:
        device: Its name; None is no device in particular.

    Raises:
        ValueError: If torch cannot compute there; it says why.
    """
    if device is None:
        return
    try:
        torch.ones(1, device=device).add(1).item()
    except Exception as error:  # Each kind of device has its own.
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        raise ValueError(f"The device {str(device)!r} cannot be used here ({reason}).") from None
