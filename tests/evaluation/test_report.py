import base64
import re
import warnings
from html.parser import HTMLParser
from importlib.metadata import version

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import robustfit
from robustfit import AttackResult, ThreatModel, attack_estimator, write_report
from robustfit.attacks import PGD, Square
from robustfit.evaluation.report_pictures import find_worst_samples
from robustfit.exceptions import RobustnessWarning

QUICK = {"version": ["apgd-ce", "fab-t"], "n_steps": 5}
PNG = b"\x89PNG\r\n\x1a\n"


class Tables(HTMLParser):
    """Cells of all tables, row by row; pictures; headings."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.pictures, self.open = [], [], None
        self.headings = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "b"), "markup of the user got into the page"
        self.open = tag
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "img":
            self.pictures.append(dict(attrs))
        elif re.fullmatch(r"h\d", tag):
            self.headings.append("")

    def handle_endtag(self, tag):
        self.open = None

    def handle_data(self, data):
        if self.open in ("td", "th"):
            self.rows[-1][-1] += data
        elif self.open and re.fullmatch(r"h\d", self.open):
            self.headings[-1] += data


def markdown_rows(text):
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    split = [re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in lines]
    return [[re.sub(r"\\(.)", r"\1", cell) for cell in row] for row in split]


@pytest.fixture(scope="module")
def linear(digits):
    X, y, X_test, y_test = digits
    model = LogisticRegression(max_iter=500).fit(X.reshape(len(X), -1), y)
    return model, X_test.reshape(len(X_test), -1)[:60], y_test[:60]


@pytest.mark.filterwarnings("ignore::robustfit.exceptions.RobustnessWarning")
@pytest.mark.parametrize("ending", ["html", "md", "HTM"])
def test_numbers_are_those_of_attack_estimator(linear, tmp_path, ending):
    models = [ThreatModel("linf", 0.05), ThreatModel("l2", 0.5)]
    path = write_report(
        tmp_path / f"r.{ending}", *linear, threat_models=models, random_state=3, **QUICK
    )
    text = path.read_text(encoding="utf-8")
    rows = markdown_rows(text) if ending == "md" else Tables(text).rows
    for attack, shown in (("pgd", "PGD"), ("autoattack", "AutoAttack")):
        found = [row for row in rows if row[0] == shown and len(row) == 5]
        assert len(found) == 2
        for row, threat_model in zip(found, models, strict=True):
            result = attack_estimator(
                *linear, attack=attack, norm=threat_model.norm, eps=threat_model.eps,
                random_state=3, **QUICK,
            )  # fmt: skip
            low, high = result.robust_interval
            assert row[1:] == [
                f"{result.robust_accuracy:.4f}", f"{low:.4f} to {high:.4f}", "60", "3"
            ]  # fmt: skip
            parts = [r for r in rows if r[0].startswith(f"{shown}, after")]
            assert len(parts) == 2 * len(result.robust_after)
    natural = next(row for row in rows if row[0] == "none (natural)")
    low, high = result.natural_interval
    assert natural[1:3] == [
        f"{result.natural_accuracy:.4f}", f"{low:.4f} to {high:.4f}"
    ]  # fmt: skip
    about = {row[0]: row[1] for row in rows if len(row) == 2}
    assert about["robustfit"] == robustfit.__version__
    assert (about["samples (n)"], about["seed"]) == ("60", "3")
    assert about["torch"] == version("torch")
    settings = next(row for row in rows if row[0] == "PGD" and len(row) == 3)
    assert "n_steps=5" in settings[1]
    assert settings[2] == f"robustfit {robustfit.__version__}"
    assert "Threat model: linf, eps=0.05" in text


@pytest.mark.filterwarnings("ignore::robustfit.exceptions.RobustnessWarning")
def test_pictures_of_the_worst_samples(digits, fitted_net, tmp_path):
    _, _, X, y = digits
    options = {"threat_models": ThreatModel(eps=0.15), "attacks": "pgd", **QUICK}
    page = write_report(
        tmp_path / "r.html", fitted_net, X, y, n_pictures=3, **options
    ).read_text()
    (picture,) = Tables(page).pictures
    kind, data = picture["src"].split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data).startswith(PNG)
    result = attack_estimator(fitted_net, X, y, eps=0.15, **QUICK)
    rows, labels = find_worst_samples(fitted_net, result, y, 3, 128)
    shown = ", ".join(
        f"row {r}: {y[r]} as {label}" for r, label in zip(rows, labels, strict=True)
    )
    assert picture["alt"] == shown
    assert not result.robust[rows].any()
    assert result.natural_correct[rows].all()
    assert labels == fitted_net.predict(result.X_adv[rows]).tolist()
    beside = write_report(
        tmp_path / "my report.md", fitted_net, X, y, n_pictures=3, **options
    )
    (name,) = re.findall(r"!\[.*\]\(<(.*)>\)", beside.read_text())
    assert (tmp_path / name).read_bytes().startswith(PNG)


def test_the_worst_samples_by_hand():
    net = torch.nn.Linear(2, 2, bias=False)
    torch.nn.init.eye_(net.weight)
    y = np.zeros(4, dtype=int)
    # The first stands, the second falls by 0.1, the third by 0.4, the last was wrong.
    X_adv = np.array([[0.6, 0.4], [0.45, 0.55], [0.3, 0.7], [0.0, 1.0]])
    natural = np.array([True, True, True, False])
    result = AttackResult(X_adv, natural, np.array([True, False, False, False]))
    rows, labels = find_worst_samples(net, result, y, 5, 2)
    assert rows.tolist() == [2, 1]
    assert labels == [1, 1]
    assert find_worst_samples(net, result, y, 1, 2)[0].tolist() == [2]


@pytest.mark.parametrize("ending", ["html", "md"])
def test_names_are_escaped(digits, tmp_path, ending):
    X, y, X_test, y_test = digits
    names = np.array([f"<b>|$x_{i}$&`" for i in range(10)])

    def my_attack(logits_fn, x, y, threat_model, generator=None):
        warnings.warn("<script>|*so*", RobustnessWarning, stacklevel=2)
        return threat_model.move_to_sphere(x, 0.5 - x)

    flat = X.reshape(len(X), -1)
    model = LogisticRegression(max_iter=500).fit(flat, names[y])
    with pytest.warns(RobustnessWarning, match="script"):
        path = write_report(
            tmp_path / f"r.{ending}", model, X_test.reshape(100, -1), names[y_test],
            threat_models=[ThreatModel(eps=0.4)], attacks=[my_attack],
            image_shape=(1, 8, 8), name="<b>mine</b> | *x*",
        )  # fmt: skip
    text = path.read_text(encoding="utf-8")
    if ending == "html":
        tables = Tables(text)  # which raises for a foreign tag
        rows = tables.rows
        assert tables.headings[0] == "Robustness of <b>mine</b> | *x*"
        assert len(tables.pictures) == 1
    else:
        rows = markdown_rows(text)
        assert "<b>" not in text.replace("\\<", "")
        assert len({len(row) for row in rows if row[0] == "my_attack"}) == 2
    assert ["RobustnessWarning", "<script>|*so*"] in rows
    assert ["model", "<b>mine</b> | *x*"] in rows
    (origin,) = [row[2] for row in rows if row[0] == "my_attack" and len(row) == 3]
    assert origin.startswith("of the user, in ")


def test_black_boxes_ranges_and_what_has_no_picture(digits, tmp_path):
    X, y, X_test, y_test = digits
    flat, flat_test = X.reshape(len(X), -1), X_test.reshape(100, -1)[:20]
    forest = RandomForestClassifier(10, random_state=0).fit(flat, y)
    path = write_report(
        tmp_path / "a.md", forest, flat_test, y_test[:20], attacks=Square(50),
        threat_models=ThreatModel("linf", 0.2, None), image_shape=(1, 8, 8),
    )  # fmt: skip
    assert (tmp_path / "a_worst_1.png").exists()
    assert "eps=0.2, clip\\_range=None" in path.read_text()
    path = write_report(tmp_path / "b.md", forest, flat_test, y_test[:20],
                        attacks=Square(5))  # fmt: skip
    assert "no image\\_shape was given" in path.read_text()
    zero = write_report(
        tmp_path / "c.md", forest, flat_test, y_test[:20], attacks=Square(5),
        threat_models=ThreatModel(eps=0.0), image_shape=(1, 8, 8), check_masking=True,
    )  # fmt: skip
    assert "No sample fell." in zero.read_text()


def test_masking_checks_are_added_when_asked_for(linear, tmp_path):
    model, X, y = linear
    path = write_report(
        tmp_path / "r.md", model, X[:20], y[:20], attacks=[PGD(5)], check_masking=True,
        threat_models=ThreatModel(eps=0.05), n_pictures=0,
    )  # fmt: skip
    rows = markdown_rows(path.read_text())
    verdicts = [row[0] for row in rows if len(row) == 3]
    assert verdicts.count("passed") > 5
    assert "None was raised." in path.read_text()


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"path": "r.pdf"}, ValueError, "r.pdf'; expected one that ends in .html"),
    ({"path": "missing/r.md"}, FileNotFoundError, "missing"),
    ({"attacks": []}, ValueError, "attacks is empty"),
    ({"threat_models": ()}, ValueError, "threat_models is empty"),
    ({"n_pictures": -1}, ValueError, "n_pictures is -1"),
    ({"attacks": "foo"}, ValueError, "attack is 'foo'"),
])  # fmt: skip
def test_bad_parameters_are_named_before_the_attacks(
    linear, tmp_path, monkeypatch, change, error, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("robustfit.evaluation.report.attack_in_turn", None)
    with pytest.raises(error, match=message):
        write_report(change.pop("path", "r.md"), *linear, **change)
    assert not list(tmp_path.iterdir())
