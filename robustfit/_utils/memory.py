"""Refuse what does not fit into memory, before it is begun."""

from pathlib import Path

import torch

from robustfit.exceptions import MemoryBudgetError

__all__ = ["free_bytes", "require_memory"]


def free_bytes(device):
    """Return the bytes free on a device, within a container's limit; None if unknown.

    Parameters
    ----------
    device : torch.device or str
    """
    device = torch.device(device)
    if device.type == "cuda":
        # What torch's own cache holds and does not use is free for torch.
        reserved = torch.cuda.memory_reserved(device)
        unused = reserved - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    known = (_free_of_machine(), _free_of_container())
    return min((free for free in known if free is not None), default=None)


def _free_of_machine():
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable")]
    return int(found[0]) * 1024 if found else None


def _free_of_container(folder=Path("/sys/fs/cgroup")):
    """Return what a control group's limit leaves; files that it caches can go."""
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # no container, or "max": no limit
        return None
    cached = [line.split()[1] for line in lines if line.startswith("inactive_file ")]
    return limit - used + int(cached[0] if cached else 0)


def require_memory(needed, device, what):
    """Raise MemoryBudgetError unless ``needed`` bytes are free on ``device``.

    Parameters
    ----------
    needed : int
    device : torch.device
    what : str
        What needs them, for the message.

    Raises
    ------
    MemoryBudgetError
        With both sizes and what to change.
    """
    free = free_bytes(device)
    if free is not None and needed > free:
        raise MemoryBudgetError(
            f"{what} needs {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are "
            f"free on {device}. Use fewer rows, dtype='float32', or "
            "kernel.product(X, Y, weights), which never holds the whole kernel."
        )
