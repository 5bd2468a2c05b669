import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from robustfit import ThreatModel


def cases(n=6, d=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, d, generator=generator, dtype=torch.float64)
    normal = torch.randn(n, d, generator=generator, dtype=torch.float64)
    offset = (normal * torch.rand(n, d, generator=generator)).sum(1)
    return x, normal, offset


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_hyperplane_move_is_the_shortest(norm):
    x, normal, offset = cases()
    move = ThreatModel(norm).move_to_hyperplane(x, normal, offset)
    torch.testing.assert_close((normal * (x + move)).sum(1), offset)
    assert ((x + move > -1e-9) & (x + move < 1 + 1e-9)).all()
    lengths = ThreatModel(norm).distance(x + move, x)
    for row in range(len(x)):
        best = _shortest(
            norm, *(t[row].numpy() for t in (x, normal)), float(offset[row])
        )
        assert float(lengths[row]) == pytest.approx(best, abs=1e-5)


def _shortest(norm, x, w, b):
    d = len(x)
    box = [(-v, 1 - v) for v in x]
    gap = b - w @ x
    if norm == "l2":
        start = np.zeros(d)
        plane = {"type": "eq", "fun": lambda m: w @ m - gap}
        solved = minimize(lambda m: m @ m, start, bounds=box, constraints=plane,
                          tol=1e-12)  # fmt: skip
        return np.linalg.norm(solved.x)
    n_slack = 1 if norm == "linf" else d
    pick = np.ones((d, 1)) if norm == "linf" else np.eye(d)
    A = np.block([[np.eye(d), -pick], [-np.eye(d), -pick]])
    cost = np.r_[np.zeros(d), np.ones(n_slack)]
    return linprog(cost, A_ub=A, b_ub=np.zeros(2 * d),
                   A_eq=[np.r_[w, np.zeros(n_slack)]], b_eq=[gap],
                   bounds=box + [(0, None)] * n_slack).fun  # fmt: skip


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_unreachable_plane_gives_the_nearest_corner(norm):
    x = torch.full((1, 3), 0.5)
    normal = torch.tensor([[1.0, -1.0, 0.0]])
    move = ThreatModel(norm).move_to_hyperplane(x, normal, torch.tensor([9.0]))
    torch.testing.assert_close(move, torch.tensor([[0.5, -0.5, 0.0]]))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_no_normal_no_move_and_no_box(norm):
    zero = torch.zeros(2, 3)
    move = ThreatModel(norm).move_to_hyperplane(zero, zero, torch.ones(2))
    assert (move == 0).all()
    free = ThreatModel(norm, clip_range=None)
    move = free.move_to_hyperplane(zero, zero + 1, torch.full((2,), 6.0))
    torch.testing.assert_close(move.sum(1), torch.full((2,), 6.0))


def test_l1_projection_is_the_nearest_point():
    x, direction, _ = cases(n=8)
    point = x + direction
    threat_model = ThreatModel("l1", 0.7)
    projected = threat_model.project(point, x)
    threat_model.check_perturbation(projected, x)
    generator = torch.Generator().manual_seed(1)
    near = (projected - point).square().sum(1)
    for _ in range(300):  # no random point of ball and box is nearer
        other = x + torch.randn(x.shape, generator=generator, dtype=x.dtype)
        other = threat_model.project(other, x)
        mixed = projected + 0.3 * (other - projected)
        assert ((mixed - point).square().sum(1) >= near - 1e-9).all()


def test_l1_leaves_inner_points():
    x = torch.full((1, 4), 0.5)
    torch.testing.assert_close(ThreatModel("l1", 1.0).project(x + 0.1, x), x + 0.1)
