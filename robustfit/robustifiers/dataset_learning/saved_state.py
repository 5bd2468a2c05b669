"""The learning state as arrays and JSON, for a checkpoint, and back."""

import copy

import torch

from robustfit._utils.torch_bridge import to_array, to_tensor
from robustfit.robustifiers.dataset_learning.disturbance import Disturbance
from robustfit.robustifiers.dataset_learning.learning_state import LearningState

__all__ = ["load_weights", "pack_state", "restore_state", "unpack"]

OPTIONAL_TENSORS = ("sources", "soft_labels", "x_best")
PLAIN_VALUES = (
    "candidate_scores", "candidate_accuracy", "best_score", "n_no_change", "n_done",
    "history",
)  # fmt: skip


def restore_state(problem, saved):
    """Return the state that a checkpoint saved, or the first one if there is none."""
    state = LearningState(problem.x.clone(), problem.theta_0)
    if saved is None:
        return state
    arrays, record = saved
    _check_record(record)
    state.x_robust = to_tensor(arrays["x_robust"], problem.x.device)
    player = unpack("player", arrays)
    if player:
        state.player = copy.deepcopy(problem.theta_0)
        load_weights(state.player, player)
    for name in set(OPTIONAL_TENSORS) & set(arrays):
        setattr(state, name, torch.tensor(arrays[name], device=problem.x.device))
    for name in PLAIN_VALUES:
        setattr(state, name, record[name])
    if record["disturbance"] is not None:
        state.disturbance = Disturbance(**record["disturbance"])
    return state


def _check_record(record):
    missing = {"disturbance", *PLAIN_VALUES} - set(record)
    if missing:
        raise ValueError(
            f"The checkpoint of this fit lacks {sorted(missing)}: expected one that "
            "this version of robustfit wrote. Delete it or use another folder, and "
            "the fit starts anew."
        )


def pack_state(problem, state, seed):
    """Return the state as arrays and a JSON record, for a checkpoint."""
    arrays = {"x_robust": to_array(state.x_robust)}
    modules = {f"theta_{n}": theta for n, theta in enumerate(problem.theta_0s)}
    if state.player is not problem.theta_0:
        modules["player"] = state.player
    for name, module in modules.items():
        for key, tensor in module.state_dict().items():
            arrays[f"{name}/{key}"] = to_array(tensor)
    for name in OPTIONAL_TENSORS:
        if getattr(state, name) is not None:
            arrays[name] = to_array(getattr(state, name))
    disturbance = None if state.disturbance is None else state.disturbance.as_dict()
    plain = {name: getattr(state, name) for name in PLAIN_VALUES}
    return arrays, {"seed": seed, "disturbance": disturbance, **plain}


def load_weights(module, weights):
    """Load a dict of arrays into ``module``."""
    module.load_state_dict({k: torch.as_tensor(v) for k, v in weights.items()})


def unpack(name, arrays):
    """Return the weights that were packed under ``name``."""
    start = f"{name}/"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
