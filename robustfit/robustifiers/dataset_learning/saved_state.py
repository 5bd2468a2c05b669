"""The learning state as arrays and JSON, for a checkpoint, and back."""

import copy

import torch

from robustfit._utils.torch_bridge import to_array, to_tensor
from robustfit.robustifiers.dataset_learning.learning_problem import LearningState

__all__ = ["load_weights", "pack_state", "restore_state", "unpack"]

OPTIONAL_TENSORS = ("sources", "soft_labels", "x_best")


def restore_state(problem, saved):
    """Return the state that a checkpoint saved, or the first one if there is none."""
    state = LearningState(problem.x.clone(), problem.theta_0)
    if saved is not None:
        arrays, record = saved
        state.x_robust = to_tensor(arrays["x_robust"], problem.x.device)
        player = unpack("player", arrays)
        if player:
            state.player = copy.deepcopy(problem.theta_0)
            load_weights(state.player, player)
        state.history = record["history"]
        state.n_done = record.get("n_done", len(state.history))
        for name in OPTIONAL_TENSORS:
            if name in arrays:
                setattr(
                    state, name, torch.tensor(arrays[name], device=problem.x.device)
                )
    return state


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
    record = {"seed": seed, "n_done": state.n_done, "history": state.history}
    return arrays, record


def load_weights(module, weights):
    """Load a dict of arrays into ``module``."""
    module.load_state_dict({k: torch.as_tensor(v) for k, v in weights.items()})


def unpack(name, arrays):
    """Return the weights that were packed under ``name``."""
    start = f"{name}/"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
