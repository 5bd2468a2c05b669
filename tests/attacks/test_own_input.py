import pytest
import torch
from torch import nn

from robustfit import ThreatModel
from robustfit.attacks import APGD, FAB, FGSM, PGD, AutoAttack, SignAttack, Square

SHORT = {"n_steps": 5, "n_queries": 20}
ATTACKS = [FGSM(), PGD(5), APGD(5), FAB(5), AutoAttack(**SHORT), Square(20),
           SignAttack(20)]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: type(a).__name__)
def test_a_module_that_writes_is_attacked_like_one_that_does_not(attack):
    torch.manual_seed(0)
    net, x = nn.Linear(6, 4).requires_grad_(False), torch.rand(20, 6)
    y, before = net(x - 0.1).argmax(1), x.clone()

    def writes(x):
        x -= 0.1
        return net(x)

    found, expected = (
        attack(fn, x, y, ThreatModel(eps=0.1), torch.Generator().manual_seed(0))
        for fn in (writes, lambda x: net(x - 0.1))
    )
    assert torch.equal(found, expected)
    assert torch.equal(x, before)
