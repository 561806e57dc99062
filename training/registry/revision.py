"""A revision gives a registered model other costs, another cut-off or refer band; the trees stay as they are.

It is a new version with an artefact of its own. The reasons of declines compare with applicants at or just above the
cut-off: under another cut-off these are others, so they are drawn anew from the labelled rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decision_log.format import EXPLORED, FEATURE_PREFIX
from decision_log.reader import DecisionLogReader
from decision_log.replay import policy_decisions
from features.errors import ColumnsError
from features.transformer import Columns
from jobs.commandline import table
from jobs.output import templates
from scoring.artefact import Artefact
from scoring.errors import ArtefactError
from scoring.policy import DecisionKind, DecisionPolicy, ExploreRule
from scoring.reasons import ReasonReference, ReferenceGroup
from scoring.scorer import Scorer, with_conformance
from scoring.store import REPORT
from training.dataset import Dataset
from training.errors import RegistryError
from training.evaluation import Evaluation, bayes_cutoff, evaluate
from training.fitting import cut_off_group
from training.registry.fitted import FILES, FittedRun, register_fitted, write_run
from training.registry.promotion import JudgedModel, judged_model
from training.registry.registry import REVISES, Registered, artefact_folder, download, recorded_predictions
from training.registry.tracking import PORTFOLIO, commit, tracked_run
from training.report.figures import ReportTable
from training.settings import TrainingSettings

Probabilities = NDArray[np.float64]
_CHANGES = tuple((was, now) for was in DecisionKind for now in DecisionKind if was is not now)
_VALUES = ("cutoff", "refer_from", "refer_to", "cost_fn", "cost_fp")


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """What shall be otherwise in a policy; what is None stays as it is."""

    cost_fn: float | None = None
    cost_fp: float | None = None
    cutoff: float | None = None
    refer_from: float | None = None
    refer_to: float | None = None
    explore_share: float | None = None
    """0 ends the exploration."""
    explore_up_to: float | None = None

    def of(self, policy: DecisionPolicy) -> DecisionPolicy:
        """The changed policy; RegistryError if nothing changes, or if the bounds are not in order.

        New costs imply the cut-off unless one is given. The refer band keeps its width, as a part of the cut-off.
        """
        cost_fn = policy.cost_fn if self.cost_fn is None else self.cost_fn
        cost_fp = policy.cost_fp if self.cost_fp is None else self.cost_fp
        cutoff = self._cutoff(policy, cost_fn, cost_fp)
        try:
            changed = replace(
                policy,
                cost_fn=cost_fn,
                cost_fp=cost_fp,
                cutoff=cutoff,
                refer_from=_moved(policy.refer_from, policy.cutoff, cutoff, self.refer_from),
                refer_to=_moved(policy.refer_to, policy.cutoff, cutoff, self.refer_to),
                explore=self._explore(policy.explore),
            )
        except ArtefactError as error:
            raise RegistryError(str(error)) from None
        if changed == policy:
            raise RegistryError("the policy is as asked for already: nothing to revise")
        return changed

    def _explore(self, rule: ExploreRule | None) -> ExploreRule | None:
        share = rule.share if self.explore_share is None and rule else self.explore_share
        up_to = rule.up_to if self.explore_up_to is None and rule else self.explore_up_to
        if not share:
            return None
        if up_to is None:
            raise RegistryError("--explore-share: needs --explore-up-to, the highest PD that is explored")
        return ExploreRule(share, up_to)

    def _cutoff(self, policy: DecisionPolicy, cost_fn: float, cost_fp: float) -> float:
        if self.cutoff is not None:
            return self.cutoff
        same = (cost_fn, cost_fp) == (policy.cost_fn, policy.cost_fp)
        return policy.cutoff if same else bayes_cutoff(cost_fn, cost_fp)


def _moved(bound: float, before: float, after: float, stated: float | None) -> float:
    if stated is not None:
        return stated
    # Not by arithmetic where nothing moves: rounding would make another policy.
    return bound if before == after else min(1.0, bound / before * after)


@dataclass(frozen=True, slots=True)
class Flips:
    """Which decisions of `rows` applications change from one policy to another.

    `cost_before` and `cost_after` are expected per applicant, from the PDs, at the costs of the new policy.
    """

    rows: int
    changed: Mapping[tuple[DecisionKind, DecisionKind], int]
    cost_before: float
    cost_after: float

    @classmethod
    def of(
        cls,
        probability: Probabilities,
        was: NDArray[np.object_],
        now: NDArray[np.object_],
        before: DecisionPolicy,
        after: DecisionPolicy,
    ) -> Flips:
        """Count the applications with these PDs and decisions, all of shape (n,)."""
        pairs = {(old, new): int(np.count_nonzero((was == old) & (now == new))) for old, new in _CHANGES}
        return cls(len(probability), pairs, *(_expected_cost(probability, policy, after) for policy in (before, after)))

    @classmethod
    def together(cls, parts: Iterable[Flips]) -> Flips:
        """Add up what was counted in parts."""
        total = cls(0, dict.fromkeys(_CHANGES, 0), 0.0, 0.0)
        for part in parts:
            rows = total.rows + part.rows
            share = part.rows / max(1, rows)
            total = cls(
                rows,
                {pair: count + part.changed[pair] for pair, count in total.changed.items()},
                total.cost_before + share * (part.cost_before - total.cost_before),
                total.cost_after + share * (part.cost_after - total.cost_after),
            )
        return total

    def lines(self) -> Iterator[str]:
        """The changes and the costs, one line each."""
        for (was, now), count in self.changed.items():
            if count:
                yield f"  {was} to {now}: {count:,} ({count / self.rows:.2%})"
        if not any(self.changed.values()):
            yield "  no decision changes"
        costs = f"{self.cost_before:.4f} before, {self.cost_after:.4f} after"
        yield f"  expected cost per applicant, at the new costs: {costs}"


def _expected_cost(probability: Probabilities, deciding: DecisionPolicy, costs: DecisionPolicy) -> float:
    declined = deciding.predictions(probability) == 1
    cost = np.where(declined, (1 - probability) * costs.cost_fp, probability * costs.cost_fn)
    return float(cost.mean()) if len(cost) else 0.0


def log_flips(log: DecisionLogReader, after: Scorer, before: DecisionPolicy) -> Flips:
    """The recorded decisions that would change; they are those of one model, which `after` has with another policy."""
    return Flips.together(_flips(log, after, before))


def _flips(log: DecisionLogReader, after: Scorer, before: DecisionPolicy) -> Iterator[Flips]:
    for path in log.segments():
        for header, block in log.recorded(path, ["margin", "probability", "decision", EXPLORED]):
            matrix = np.column_stack([block[f"{FEATURE_PREFIX}{name}"].to_numpy() for name in header.features])
            scores = after.decide(matrix, block["margin"].to_numpy(), with_reasons=False)
            was = policy_decisions(block)
            yield Flips.of(block["probability"].to_numpy(), was, scores.decision, before, after.artefact.policy)


@dataclass(frozen=True, slots=True, eq=False)
class Revision:
    """A revised artefact beside the one before, and what the revision changes on labelled rows.

    `judged` holds the PDs of the rows, each from a model that was not fitted on it.
    """

    base: Registered
    before: Artefact
    after: Artefact
    judged: JudgedModel
    evaluation: Evaluation
    flips: Flips

    def lines(self) -> Iterator[str]:
        """The policy before and after, and what changes on the rows."""
        yield f"policy of {self.base}, digest {self.base.digest[:12]}:"
        yield from (f"  {line}" for line in table(self.rows(), right={1, 2}))
        yield f"{self.flips.rows:,} labelled applications, by the PD alone:"
        yield from self.flips.lines()
        yield f"  realised cost per applicant {self.evaluation['cost_per_applicant']} after"
        cheapest = bayes_cutoff(self.after.policy.cost_fn, self.after.policy.cost_fp)
        if self.after.policy.cutoff != cheapest:
            yield f"note: at these costs {cheapest:.4f} is the cheapest cut-off"

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """The policy as a table: its heading, then a row for each value."""
        yield "", "before", "after"
        for name in _VALUES:
            yield name, f"{getattr(self.before.policy, name):.4g}", f"{getattr(self.after.policy, name):.4g}"
        explored = [self.before.policy.explore, self.after.policy.explore]
        if any(explored):
            was, now = ("none" if one is None else f"{one.share:.4g} up to {one.up_to:.4g}" for one in explored)
            yield "explore", was, now

    def register(self, settings: TrainingSettings, source: str) -> Registered:
        """Record the revision in a run of its own and register it as challenger."""
        with tempfile.TemporaryDirectory() as scratch:
            recorded = recorded_predictions(self.base, Path(scratch))
        run_id = str(self.after.lineage["run_id"])
        folder = write_run(self._run(run_id, source), self.after, recorded)
        (folder / FILES / REPORT).write_text(self.page(settings), encoding="utf-8")
        return register_fitted(folder)

    def _run(self, run_id: str, source: str) -> FittedRun:
        estimates = self.evaluation.estimates.items()
        figures = {
            key: end
            for name, one in estimates
            for key, end in ((name, one.value), (f"{name}_low", one.low), (f"{name}_high", one.high))
        }
        policy, lineage = self.after.policy, self.after.lineage
        return FittedRun(
            run_id=run_id,
            name=self.base.name,
            digest=self.after.digest,
            source=source,
            parameters={name: str(getattr(policy, name)) for name in _VALUES},
            metrics=figures,
            tags={
                "digest": self.after.digest,
                REVISES: self.base.digest,
                "commit": lineage["commit"] or "none",
                PORTFOLIO: self.after.portfolio.name,
                "data.sha256": lineage["data"]["sha256"],
                "data.source": lineage["data"]["source"],
            },
            version_tags={REVISES: self.base.digest},
        )

    def page(self, settings: TrainingSettings) -> str:
        """Render the report of the version; the report of the version before describes the model."""
        head, *rows = self.rows()
        measures = [(name.replace("_", " "), str(one)) for name, one in self.evaluation.estimates.items()]
        flips = [(f"{was} to {now}", f"{count:,}") for (was, now), count in self.flips.changed.items()]
        chain = [(one["version"], one["revises"][:12], one["note"]) for one in self.after.lineage["revisions"]]
        tables = {
            "policy": ReportTable.of("lrr", head, rows),
            "flips": ReportTable.of("lr", ("change", "applications"), flips),
            "measures": ReportTable.of("lr", ("measure", "value"), measures),
            "chain": ReportTable.of("lll", ("version", "digest", "what was revised then"), chain),
        }
        return (
            templates("training.report")
            .get_template("revision.html")
            .render(revision=self, tables=tables, interval=f"{100 * settings.evaluation.confidence:g} %")
        )


def revise(
    base: Registered,
    change: PolicyChange,
    dataset: Dataset,
    settings: TrainingSettings,
    *,
    run_id: str,
    note: str,
    now: datetime,
) -> Revision:
    """Revise the policy of a registered version; RegistryError if it cannot be, or if nothing would change."""
    before = base_artefact(base)
    policy = change.of(before.policy)
    judged = judged_model(base, dataset)
    evaluation = evaluate(dataset.target, judged.probability, policy, settings.evaluation, seed=settings.seed)
    try:
        reasons = _reasons(before, policy, dataset.columns)
    except ColumnsError as error:
        raise RegistryError(f"{base} cannot score the labelled rows: {error}") from None
    stated = {
        "version": base.version,
        "policy": before.policy_version,
        "at": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "commit": commit(),
        "note": note,
    }
    after = before.revised(
        policy, reasons=reasons, metrics=_metrics(before, evaluation, judged), run_id=run_id, stated=stated
    )
    was, becomes = before.policy.outcomes(judged.probability), policy.outcomes(judged.probability)
    flips = Flips.of(judged.probability, was, becomes, before.policy, policy)
    return Revision(base, before, with_conformance(after), judged, evaluation, flips)


def base_artefact(base: Registered) -> Artefact:
    """Read the verified artefact of a registered version."""
    with tempfile.TemporaryDirectory() as scratch:
        return Artefact.read(artefact_folder(download(base, Path(scratch)), base))


def _metrics(before: Artefact, evaluation: Evaluation, judged: JudgedModel) -> dict[str, Any]:
    others = evaluation.rows - judged.fitted_on
    rows = "out-of-fold rows of the training data"
    return {
        **before.metrics,
        **evaluation.to_dict(),
        "estimated_on": f"{rows}, and {others} later rows" if others else rows,
        # They were judged by the policy before, and their rows are not at hand.
        "out_of_time": None,
    }


def _reasons(before: Artefact, policy: DecisionPolicy, columns: Columns) -> ReasonReference | None:
    """The reference of the reasons: another one if it consists of applicants at a cut-off that moves."""
    own = before.reasons
    if own is None or own.group is not ReferenceGroup.CUT_OFF or policy.cutoff == before.policy.cutoff:
        return own
    scorer = Scorer(before)
    matrix = scorer.transformer.transform(columns.declared_by(before.portfolio))
    rows = cut_off_group(scorer.score_matrix(matrix).probability, policy.cutoff, own.rows)
    return ReasonReference.interventional(scorer.model, ReferenceGroup.CUT_OFF, matrix[rows])


def register_revision(
    base: Registered, change: PolicyChange, dataset: Dataset, settings: TrainingSettings, *, note: str, now: datetime
) -> tuple[Revision, Registered]:
    """Revise a version's policy in a run of its own, and register the revision as challenger."""
    change.of(base_artefact(base).policy)  # what cannot be revised leaves no run behind
    with tracked_run(settings.tracking, name=f"policy of version {base.version}") as run_id:
        revision = revise(base, change, dataset, settings, run_id=run_id, note=note, now=now)
        return revision, revision.register(settings, base.source)
