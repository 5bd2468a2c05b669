import torch
from torch import nn

from robustfit.robustifiers.dataset_learning.fictitious_play import perturb_towards
from robustfit.threat_model import ThreatModel


def test_perturbation_reaches_its_target_within_the_ball():
    torch.manual_seed(0)
    net = nn.Linear(20, 4)
    x, target = torch.rand(30, 20), torch.randint(4, (30,))
    threat_model = ThreatModel("linf", 0.5)
    x_new = perturb_towards(net, x, target, threat_model, n_steps=8)
    threat_model.check_perturbation(x_new, x)
    before = (net(x).argmax(1) == target).float().mean()
    assert (net(x_new).argmax(1) == target).float().mean() > before + 0.3
