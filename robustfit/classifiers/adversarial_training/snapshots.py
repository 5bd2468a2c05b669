"""States of a training that can be gone back to, and how a checkpoint holds them."""

import copy
from typing import NamedTuple

import torch

from robustfit._utils.torch_bridge import to_array

__all__ = ["Snapshot", "pack", "plain_rows", "unpack"]


class Snapshot(NamedTuple):
    """The state of a training after an epoch at ``eps``."""

    weights: dict
    optimizer: dict
    eps: float | None


def pack(name, snapshot):
    """Return a snapshot as arrays. Learning rates are the callbacks' to set."""
    arrays = {f"{name}/weights/{k}": to_array(v) for k, v in snapshot.weights.items()}
    for number, values in snapshot.optimizer["state"].items():
        for key, value in values.items():
            if value is not None:
                path = f"{name}/optimizer/{number}/{key}"
                arrays[path] = to_array(torch.as_tensor(value))
    return arrays


def unpack(name, arrays, like, eps):
    """Return the snapshot that was packed; ``like`` is one of the same net."""
    weights: dict[str, torch.Tensor] = {}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for path, array in arrays.items():
        owner, kind, *rest = path.split("/")
        if owner == name and kind == "weights":
            weights["/".join(rest)] = torch.as_tensor(array)
        elif owner == name:
            number, key = rest
            state.setdefault(int(number), {})[key] = torch.as_tensor(array)
    groups = copy.deepcopy(like.optimizer["param_groups"])
    return Snapshot(weights, {"state": state, "param_groups": groups}, eps)


def plain_rows(rows):
    """Return a skorch history as JSON holds it, without its batches."""
    return [
        {k: getattr(v, "item", lambda v=v: v)() for k, v in row.items()}
        | {"batches": []}
        for row in rows
    ]
