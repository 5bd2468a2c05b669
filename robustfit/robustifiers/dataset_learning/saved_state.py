"""The learning state as arrays and JSON, for a checkpoint, and back."""

import copy
from typing import Any

import skorch
import torch

from robustfit._utils.labels import targets_of
from robustfit._utils.torch_bridge import seeded_torch, to_array, to_tensor
from robustfit.robustifiers.dataset_learning.candidate import Candidate
from robustfit.robustifiers.dataset_learning.disturbance import Disturbance
from robustfit.robustifiers.dataset_learning.learning_state import LearningState

__all__ = ["load_weights", "pack_state", "restore_state", "unpack"]

OPTIONAL_TENSORS = ("sources", "row_probabilities", "soft_labels", "x_best")
PLAIN_VALUES = (
    "measured", "n_measured_on", "best_score", "n_no_change", "n_done", "history",
)  # fmt: skip
CHOICES = ("candidates", "chosen", "disturbance")


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
    state.judges = _restore_judges(problem, arrays)
    state.candidates = [Candidate.from_dict(c) for c in record["candidates"]]
    if record["disturbance"] is not None:
        state.disturbance = Disturbance(**record["disturbance"])
    if record["chosen"] is not None:
        state.chosen = Candidate.from_dict(record["chosen"])
    return state


def _restore_judges(problem, arrays):
    judges: list[Any] = []
    while weights := unpack(f"judge_{len(judges)}", arrays):
        y = to_array(problem.y)
        with seeded_torch(0):
            judge = problem.new_net()
            judge.initialize().check_data(to_array(problem.x), targets_of(judge, y))
        load_weights(judge.module_, weights)
        judges.append(judge)
    return judges


def _check_record(record):
    missing = {*CHOICES, *PLAIN_VALUES} - set(record)
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
    if state.player is not None and state.player is not problem.theta_0:
        modules["player"] = state.player
    for number, judge in enumerate(state.judges):
        if isinstance(judge, skorch.NeuralNet):  # no other has a state without pickle
            modules[f"judge_{number}"] = judge.module_
    for name, module in modules.items():
        for key, tensor in module.state_dict().items():
            arrays[f"{name}/{key}"] = to_array(tensor)
    for name in OPTIONAL_TENSORS:
        if getattr(state, name) is not None:
            arrays[name] = to_array(getattr(state, name))
    plain = {name: getattr(state, name) for name in PLAIN_VALUES}
    choices = {
        "candidates": [candidate.as_dict() for candidate in state.candidates],
        "chosen": None if state.chosen is None else state.chosen.as_dict(),
        "disturbance": (
            None if state.disturbance is None else state.disturbance.as_dict()
        ),
    }
    return arrays, {"seed": seed, **choices, **plain}


def load_weights(module, weights):
    """Load a dict of arrays into ``module``."""
    module.load_state_dict({k: torch.as_tensor(v) for k, v in weights.items()})


def unpack(name, arrays):
    """Return the weights that were packed under ``name``."""
    start = f"{name}/"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
