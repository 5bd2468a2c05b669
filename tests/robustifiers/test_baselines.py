import numpy as np
import pytest

from robustfit import AdversarialDataset, NoisyDataset
from robustfit.nets import default_classifier


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("source", ["natural", "robust"])
def test_adversarial_images_fool_their_source(digits, norm, source):
    X, y, _, _ = digits
    eps = 0.3 if norm == "linf" else 2.0
    baseline = AdversarialDataset(
        eps, norm, source=source, n_epochs=2, random_state=0,
        estimator=default_classifier((1, 8, 8), 10, max_epochs=20),
    )  # fmt: skip
    X_adv = baseline.fit_transform(X, y)
    delta = (X_adv - X).reshape(len(X), -1)
    length = np.abs(delta).max(1) if norm == "linf" else np.linalg.norm(delta, axis=1)
    assert length.max() <= eps + 1e-5
    assert X_adv.min() >= 0
    assert X_adv.max() <= 1
    source = baseline.source_estimator_
    natural, fooled = (source.score(data, y) for data in (X, X_adv))
    assert fooled < natural - 0.3


def test_fine_tuning_never_starts_from_robust_weights(digits):
    X, y, _, _ = digits
    natural, robust = (
        AdversarialDataset(0.1, source=s, n_epochs=1, random_state=0).fit(X, y)
        for s in ("natural", "robust")
    )
    start, same, trained = (
        next(iter(net.module_.state_dict().values()))
        for net in (natural.estimator_, robust.estimator_, robust.source_estimator_)
    )  # fmt: skip
    assert (start == same).all()
    assert (start != trained).any()


def test_noise_has_the_documented_scale():
    X = np.full((50, 1, 8, 8), 0.5)
    y = np.arange(50) % 2
    for kind, scale, parameters in [
        ("gaussian", 0.025, {"eps": 0.01}),
        ("sign", 0.02, {"eps": 0.01}),
        ("gaussian", 0.1, {"scale": 0.1}),
        ("gaussian", 2.5 * 0.08 * np.sqrt(8 / 64), {"eps": 0.08, "norm": "l2"}),
    ]:
        noisy = NoisyDataset(kind=kind, random_state=0, **parameters)
        spread = (noisy.fit_transform(X, y) - X).std()
        assert spread == pytest.approx(scale, rel=0.05)


def test_same_seed_same_bytes(digits):
    X, y, _, _ = digits
    runs = [
        NoisyDataset(eps=0.1, random_state=s).fit_transform(X, y) for s in (0, 0, 1)
    ]
    assert runs[0].tobytes() == runs[1].tobytes() != runs[2].tobytes()
    assert runs[0].min() >= 0
    assert runs[0].max() <= 1
