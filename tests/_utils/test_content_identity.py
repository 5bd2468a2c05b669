import functools
import os
import subprocess
import sys
import textwrap

import pytest
import torch

from robustfit._utils.content_identity import content_hash, identify


def hash_of(value):
    return content_hash(identify(value))


def define(source, name="f"):
    """Return what ``source`` defines under ``name``, as one module's version would."""
    space = {"__name__": "attacks_of_mine"}
    exec(textwrap.dedent(source), space)
    return space[name]


def test_an_edited_function_is_another_one():
    first, second, same = (
        define(f"def f(x):\n    return x + {number}") for number in (1, 2, 1)
    )
    assert hash_of(first) == hash_of(same) != hash_of(second)


@pytest.mark.parametrize(
    "edited",
    [
        "def f(x, k=2):\n    return g(x) in {'a', 'b'}",  # a default
        "def f(x, k=1):\n    return h(x) in {'a', 'b'}",  # what it calls
        "def f(x, k=1):\n    return g(x) in {'a', 'c'}",  # a constant
        "def f(x, k=1):\n    return (lambda: g(x))() in {'a', 'b'}",  # inside
    ],
)
def test_all_of_a_function_counts(edited):
    original = define("def f(x, k=1):\n    return g(x) in {'a', 'b'}")
    assert hash_of(original) != hash_of(define(edited))


def test_partials_and_closures_by_what_they_hold():
    def scale(x, factor=1.0):
        return x * factor

    def scaled_by(factor):
        def scale_by_it(x):
            return x * factor

        return scale_by_it

    for make in (lambda k: functools.partial(scale, factor=k), scaled_by):
        assert hash_of(make(1)) == hash_of(make(1)) != hash_of(make(2))


def test_nets_by_their_weights_and_other_attributes():
    nets = [torch.nn.Linear(2, 2) for _ in range(3)]
    nets[1].load_state_dict(nets[0].state_dict())
    assert hash_of(nets[0]) == hash_of(nets[1]) != hash_of(nets[2])
    nets[1].level = 3
    assert hash_of(nets[0]) != hash_of(nets[1])


@pytest.mark.parametrize(
    "edited",
    [
        "class f(g):\n    k = 2\n    def __call__(self, x):\n        return x",
        "class f(g):\n    k = 1\n    def __call__(self, x):\n        return -x",
        "class f:\n    k = 1\n    def __call__(self, x):\n        return x",
    ],
)
def test_an_edited_class_is_another_one(edited):
    original = "class f(g):\n    k = 1\n    def __call__(self, x):\n        return x"
    base = "class g:\n    @staticmethod\n    def h(): return 1\n"
    first, same, second = (
        hash_of(define(base + source)()) for source in (original, original, edited)
    )
    assert first == same != second
    below = hash_of(define(base.replace("return 1", "return 2") + original)())
    assert first != below


def test_what_holds_itself():
    def count(n):
        return n and count(n - 1)

    class Maker:
        def __call__(self):
            return Maker(), super().__hash__()

    assert hash_of(count) == hash_of(count)
    assert hash_of(Maker()) == hash_of(Maker())


def test_what_cannot_be_told_apart_is_refused():
    with pytest.raises(ValueError, match=r"lambda .* pass checkpoint=None"):
        identify(lambda x: x)
    with pytest.raises(ValueError, match="lambda"):
        identify(functools.partial(lambda x: x))
    with pytest.raises(ValueError, match="lambda"):
        identify(define("class f:\n    step = lambda self, x: x"))
    with pytest.raises(ValueError, match="cannot be hashed"):
        content_hash(sys._getframe())


def test_the_hash_is_that_of_every_process():
    code = """
    import torch
    from robustfit._utils.content_identity import content_hash, identify
    from robustfit.attacks import AutoAttack, PGD, TransferAttack
    net = torch.nn.Linear(2, 2)
    torch.nn.init.eye_(net.weight), torch.nn.init.zeros_(net.bias)
    def near(x, names=("a", "b")):
        return x in {"one", "two", "three"}
    for value in (near, net, torch.arange(3.0)):
        print(content_hash(identify(value)))
    for attack in (PGD(3), AutoAttack(), TransferAttack([net])):
        print(content_hash(attack.identity()))
    """
    printed = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert printed[0] == printed[1]
    assert len(set(printed[0].split())) == 6
