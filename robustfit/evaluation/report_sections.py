"""What stands in a report beside pictures: model, attacks, numbers, warnings."""

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as version_of

import numpy as np

from robustfit._version import __version__
from robustfit.evaluation.masking import GradientMaskingReport
from robustfit.evaluation.report_blocks import Heading, Paragraph, Table
from robustfit.evaluation.result import AttackResult
from robustfit.threat_model import ThreatModel

__all__ = ["Finding", "attack_table", "front_page", "section"]

_LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "skorch")


@dataclass(frozen=True)
class Finding:
    """What the attacks of one threat model found."""

    threat_model: ThreatModel
    results: list[AttackResult]
    warned: list[tuple[str, str]]
    masking: GradientMaskingReport | None


def front_page(name, estimator, X, result):
    """Return the blocks that say what was attacked, when, and with which code."""
    versions = {"robustfit": __version__, "python": platform.python_version()}
    versions |= {library: version_of(library) for library in _LIBRARIES}
    rows = (
        ("model", name),
        ("class", type(estimator).__name__),
        ("samples (n)", str(result.n_samples)),
        ("shape of a sample", str(tuple(np.shape(X)[1:]))),
        ("seed", str(result.seed)),
        ("date", datetime.now(UTC).date().isoformat()),
        *versions.items(),
    )
    return [
        Heading(f"Robustness of {name}", 1),
        Table(("", "value"), rows),
        Paragraph(
            "Accuracies are shares of the n samples. Intervals are 95 % Wilson "
            "intervals: what another draw of as many samples may show. An attack "
            "proves that samples fall, never that others stand: robust accuracies are "
            "upper bounds."
        ),
    ]


def attack_table(attacks):
    """Return a table of attacks, their settings and where their code is from."""
    rows = []
    for attack in attacks:
        settings = {
            k: v for k, v in vars(attack).items() if not k.endswith("_") and k[0] != "_"
        }
        shown = ", ".join(f"{k}={v!r}" for k, v in settings.items())
        rows.append((_name_of(attack), shown, _origin_of(attack)))
    return Table(("attack", "settings", "code"), tuple(rows))


def _name_of(attack):
    function = getattr(attack, "function", None)
    return getattr(function, "__name__", type(attack).__name__)


def _origin_of(attack):
    """Return the library an attack comes from, with its version."""
    if type(attack).__name__ == "AutoAttackReference":
        return f"pyautoattack {version_of('pyautoattack')}"
    module = getattr(getattr(attack, "function", None), "__module__", None)
    module = module or type(attack).__module__
    is_ours = module.split(".")[0] == "robustfit"
    return f"robustfit {__version__}" if is_ours else f"of the user, in {module}"


def section(finding, attacks):
    """Return the blocks of one threat model: numbers, warnings, masking checks."""
    threat_model = finding.threat_model
    blocks = [
        Heading(f"Threat model: {threat_model.norm}, {_describe(threat_model)}"),
        _accuracy_table(finding.results, attacks),
        Heading("Warnings", 3),
    ]
    if finding.warned:
        blocks.append(Table(("warning", "message"), tuple(finding.warned)))
    else:
        blocks.append(Paragraph("None was raised."))
    if finding.masking is not None:
        blocks.append(Heading("Checks for gradient masking", 3))
        verdicts = {True: "passed", False: "FAILED", None: "not run"}
        rows = tuple(
            (verdicts[check.passed], check.name, check.measured)
            for check in finding.masking.checks
        )
        blocks.append(Table(("verdict", "what should hold", "measured"), rows))
    return blocks


def _describe(threat_model):
    """Return budget and range in words: numbers, or how features differ in them."""
    budgets = np.ravel(threat_model.budget)
    text = f"eps={threat_model.eps:.6g}, clip_range={threat_model.clip_range}"
    if threat_model.is_per_feature:
        text = (
            f"eps from {budgets.min():.6g} to {budgets.max():.6g} by feature "
            f"({(budgets == 0).sum()} of {budgets.size} fixed)"
            if threat_model.scale is not None
            else f"eps={threat_model.eps:.6g}"
        )
        low, high = (np.asarray(bound) for bound in threat_model.bounds)
        text += f", ranges by feature within [{low.min():.6g}, {high.max():.6g}]"
    return text


def _accuracy_table(results, attacks):
    natural = results[0]
    rows = [
        _accuracy_row("none (natural)", natural.natural_accuracy,
                      natural.natural_interval, natural)
    ]  # fmt: skip
    for attack, result in zip(attacks, results, strict=True):
        rows.append(
            _accuracy_row(
                _name_of(attack), result.robust_accuracy, result.robust_interval, result
            )
        )
        rows += [
            (f"{_name_of(attack)}, after {part}", f"{alive.mean():.4f}", "", "", "")
            for part, alive in result.robust_after.items()
        ]
    return Table(("attack", "accuracy", "95 % interval", "n", "seed"), tuple(rows))


def _accuracy_row(name, accuracy, interval, result):
    low, high = interval
    return (
        name,
        f"{accuracy:.4f}",
        f"{low:.4f} to {high:.4f}",
        str(result.n_samples),
        str(result.seed),
    )
