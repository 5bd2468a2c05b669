"""Steps that search for the set: judge the candidates and the rows, make the set."""

from dataclasses import dataclass, replace
from functools import partial

from robustfit._utils.labels import targets_of
from robustfit._utils.torch_bridge import draw_integer, seeded_torch, to_array
from robustfit._utils.uninterrupted_fit import fit_uninterrupted
from robustfit.robustifiers.dataset_learning.candidate import (
    NATURAL,
    Candidate,
)
from robustfit.robustifiers.dataset_learning.row_judges import (
    class_probabilities,
    cross_fit,
    halves,
)
from robustfit.robustifiers.dataset_learning.row_selection import split_for_search
from robustfit.robustifiers.dataset_learning.set_making import (
    draw_sources,
    make_images,
)
from robustfit.robustifiers.dataset_learning.step import Step
from robustfit.robustifiers.dataset_learning.validation import (
    fine_tune,
    measure_robustness,
)

__all__ = ["JudgeCandidate", "JudgeConvex", "JudgeRows", "JudgeVariant", "MakeSet"]


class _Judge(Step):
    """Train a net on a part of the set that a candidate makes; attack it.

    The net is trained as the recipe's protocol says, and attacked on other images, the
    same for all candidates.
    """

    def _judge(self, candidate, state, generator, n_rows):
        """Note the candidate's accuracies; the record tells them.

        Small sets are split, and nets trained, several times: what comes of one
        training on few rows is mostly chance.
        """
        results = [
            self._judge_once(candidate, state, generator, n_rows, repeat)
            for repeat in range(self.recipe.n_repeats)
        ]
        n_trained, n_attacked = results[0][1:]
        measured = {
            name: sum(m[name] for m, *_ in results) / len(results)
            for name in results[0][0]
        }
        state.note_candidate(
            candidate,
            measured["natural_accuracy"],
            measured["robust_accuracy"],
            n_attacked * len(results),
        )
        return candidate.as_dict() | {"n_rows": n_trained} | measured

    def _judge_once(self, candidate, state, generator, n_rows, repeat):
        """Return what was measured, and the rows trained on and attacked."""
        rows, X_held_out, y_held_out = split_for_search(self.problem, n_rows, repeat)
        net = self._train(candidate, state, rows, generator)
        threat_model = self.problem.threat_model
        measured = measure_robustness(net, X_held_out, y_held_out, threat_model)
        return measured, len(rows), len(y_held_out)

    def _train(self, candidate, state, rows, generator):
        problem = self.problem
        sources = draw_sources(
            problem, state.row_probabilities, candidate.unclear_fraction, generator
        )
        shown = rows if sources is None else sources[rows]
        y = problem.y[rows]
        x = make_images(problem, candidate, problem.x[shown], y, generator)
        if self.recipe.soft_labels:
            y = state.row_probabilities[shown]
        if self.recipe.protocol == "fine-tune":
            batch_size = self.recipe.batch_size
            return fine_tune(problem.theta_0, x, y, batch_size, generator)
        with seeded_torch(draw_integer(generator)):
            net = problem.new_net()
            return fit_uninterrupted(net, to_array(x), targets_of(net, to_array(y)))


@dataclass(frozen=True)
class JudgeCandidate(_Judge):
    """Judge one of the recipe's candidates."""

    candidate: Candidate

    name = "candidate"

    def run(self, state, generator):
        """Note the candidate's accuracies; the record tells them."""
        n_rows = self.recipe.n_candidate_rows
        return self._judge(self.candidate, state, generator, n_rows)


@dataclass(frozen=True)
class JudgeVariant(_Judge):
    """Judge the best disturbance with rows replaced or images moved, on more rows.

    The first variant, the natural set, ends the comparison of disturbances: nets that
    are trained on more rows are not to be compared with those.
    """

    unclear_fraction: float | None
    radius: float = 0.0

    name = "variant"

    def run(self, state, generator):
        """Note the candidate's accuracies; the record tells them."""
        candidate = NATURAL
        if self.unclear_fraction is None:
            state.end_comparison(self.recipe)
        else:
            disturbance = state.best_disturbance(self.recipe)
            candidate = Candidate(disturbance, self.unclear_fraction, self.radius)
        n_rows = self.recipe.n_variant_rows
        return self._judge(candidate, state, generator, n_rows)


@dataclass(frozen=True)
class JudgeConvex(_Judge):
    """Judge the set on which a convex learner's natural optimum is its robust one."""

    name = "convex"

    def run(self, state, generator):
        """Note the candidate's accuracies; the record tells them."""
        n_rows = self.recipe.n_variant_rows
        return self._judge(Candidate(convex=True), state, generator, n_rows)


@dataclass(frozen=True)
class JudgeRows(Step):
    """Ask two nets, each trained on the disturbed other half, what each row shows."""

    name = "judge-rows"

    def run(self, state, generator):
        """Set ``row_probabilities`` and ``judges``; tells how often they are right."""
        problem, start = self.problem, generator.get_state()
        disturbance = state.best_disturbance(self.recipe)
        state.judges = cross_fit(
            problem.x,
            problem.y,
            partial(problem.disturb, disturbance, generator=generator),
            problem.new_net,
            generator,
        )
        generator.set_state(start)
        first, second = halves(problem.y, generator)
        state.row_probabilities = problem.x.new_empty(len(problem.x), problem.n_classes)
        for judge, rows in zip(state.judges, (second, first), strict=True):
            state.row_probabilities[rows] = class_probabilities(
                judge, problem.x[rows], problem.n_classes
            )
        agreement = state.row_probabilities.argmax(1) == problem.y
        return {"agreement": float(agreement.float().mean())}


@dataclass(frozen=True)
class MakeSet(Step):
    """Make the whole set as the chosen candidate says."""

    name = "make-set"

    def run(self, state, generator):
        """Set ``chosen``, ``sources`` and the set; the record is the candidate."""
        problem = self.problem
        state.chosen = state.choose(self.recipe)
        if self.recipe.unclear_fraction is not None and not state.chosen.convex:
            state.chosen = replace(
                state.chosen, unclear_fraction=self.recipe.unclear_fraction
            )
        state.sources = draw_sources(
            problem, state.row_probabilities, state.chosen.unclear_fraction, generator
        )
        images = state.natural_images(problem)
        state.x_robust = make_images(
            problem, state.chosen, images, problem.y, generator
        )
        return state.chosen.as_dict()
