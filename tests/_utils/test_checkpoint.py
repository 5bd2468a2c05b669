import os
import re
import subprocess
import sys
import threading

import numpy as np
import pytest

from robustfit import AdversarialClassifier, attack_estimator
from robustfit._utils import checkpoint as module
from robustfit._utils.checkpoint import Checkpoint
from robustfit.nets import MLP


def saved(folder):
    point = Checkpoint(folder, "fit")
    point.save({"a": np.arange(3)}, {"seed": 1})
    return point


def test_what_is_saved_is_found_and_nothing_else_lies_there(tmp_path):
    saved(tmp_path)
    arrays, record = Checkpoint(tmp_path, "fit").load()
    assert arrays["a"].tolist() == [0, 1, 2]
    assert record == {"seed": 1}
    assert Checkpoint(tmp_path, "another").load() is None
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


def test_the_version_is_part_of_the_name(tmp_path, monkeypatch):
    before = Checkpoint(tmp_path, "fit").path
    monkeypatch.setattr(module, "__version__", "another")
    assert Checkpoint(tmp_path, "fit").path != before


@pytest.mark.parametrize("damage", [
    lambda data: b"", lambda data: data[:50], lambda data: data[:-30],
    lambda data: b"not a zip at all", lambda data: data.replace(b"record", b"rekord"),
    lambda data: data[:150] + bytes([data[150] ^ 255]) + data[151:],
], ids=["empty", "head", "tail", "text", "no record", "a byte"])  # fmt: skip
def test_damage_is_one_error(tmp_path, damage):
    path = saved(tmp_path).path
    path.write_bytes(damage(path.read_bytes()))
    expected = rf"checkpoint {re.escape(str(path))} is damaged.*Delete it"
    with pytest.raises(ValueError, match=expected):
        Checkpoint(tmp_path, "fit").load()


@pytest.mark.parametrize("name", ["", "x\0y", "a file", "a file/below", 3])
def test_folders_are_tried_before_any_work(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").write_text("")
    monkeypatch.setattr(MLP, "forward", lambda *_: pytest.fail("it was trained"))
    X, y = np.zeros((4, 2)), [0, 1, 0, 1]
    model = AdversarialClassifier(estimator=MLP, checkpoint=name)
    with pytest.raises(ValueError, match="where nothing can be saved"):
        model.fit(X, y)


def test_what_killed_processes_left_is_removed(tmp_path):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, check=True, text=True)  # fmt: skip
    dead, here = int(gone.stdout), os.getpid()
    names = {
        f"0af.{module._HOST}.{dead}.1.tmp": False,
        f"0af.{module._HOST}.{here}.1.tmp": True,  # is being written
        f"0af.elsewhere.{dead}.1.tmp": True,  # another machine's
        f"notes.{dead}.tmp": True,  # not ours
    }
    for name in names:
        (tmp_path / name).write_text("")
    Checkpoint(tmp_path, "fit")
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_a_save_that_fails_leaves_nothing(tmp_path, monkeypatch):
    point = Checkpoint(tmp_path, "fit")

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(module.np, "savez", fail)
    with pytest.raises(OSError, match="No space"):
        point.save({}, {})
    assert list(tmp_path.iterdir()) == []


def test_threads_save_at_once(tmp_path):
    errors = []

    def save():
        try:
            for _ in range(30):
                saved(tmp_path)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=save) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert saved(tmp_path).load()[1] == {"seed": 1}


@pytest.mark.parametrize("change", [
    lambda X: X + 0.5, lambda X: X * np.nan, lambda X: X[:1],
    lambda X: X.astype(float),
], ids=["beyond the budget", "nan", "few rows", "float64"])  # fmt: skip
def test_the_contents_of_attacks_are_not_trusted(digits, fitted_net, tmp_path, change):
    _, _, X, y = digits
    run = {"eps": 0.05, "n_steps": 2, "checkpoint": tmp_path}
    expected = attack_estimator(fitted_net, X[:9], y[:9], **run)
    (path,) = tmp_path.iterdir()
    again = attack_estimator(fitted_net, X[:9], y[:9], **run)
    np.testing.assert_array_equal(again.X_adv, expected.X_adv)
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["X_adv"] = change(arrays["X_adv"])
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"is damaged, or not what.*Delete it"):
        attack_estimator(fitted_net, X[:9], y[:9], **run)


def augment_by_one(x):
    return x * 0.9


def edited(x):
    return x * 0.8


edited.__name__, edited.__qualname__ = "augment_by_one", "augment_by_one"


def test_an_edited_function_is_another_fit(digits, tmp_path):
    X, y, _, _ = digits
    settings = {"estimator": MLP, "n_epochs": 1, "n_steps": 1, "random_state": 0}
    for augment in (augment_by_one, edited):
        AdversarialClassifier(
            augment=augment, checkpoint=tmp_path, **settings
        ).fit(X[:60], y[:60])  # fmt: skip
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ValueError, match="lambda"):
        AdversarialClassifier(
            augment=lambda x: x, checkpoint=tmp_path, **settings
        ).fit(X[:60], y[:60])  # fmt: skip
