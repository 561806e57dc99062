"""What a smaller annuity would do to default: a model's reading beside a causal one, and the truth of the generator.

python -m examples.causal_effect [CLIENTS] [SCALE] [SEED]

The declared intervention multiplies AMT_ANNUITY of cash loans by SCALE, and the client repays longer. The effect is
identified if nothing but the adjustment set moves both the annuity and the outcome. For generated data that is known;
for a lender's data it is an assumption that no computation checks. Every client must have had some chance of the
smaller annuity: where an annuity follows from the other columns, as of revolving loans, nothing can be said.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from configs.portfolios.home_credit.generator.application import Application, Clients, draw_clients, draw_target
from configs.portfolios.home_credit.generator.population import Chunk, Split
from monitoring.measures import Estimate, normal_estimate

Floats = NDArray[np.float64]

ADJUSTMENT = ("AMT_CREDIT", "AMT_GOODS_PRICE", "AMT_INCOME_TOTAL", "DAYS_BIRTH")
"""What decides on the annuity and on default; nothing that follows from the annuity may be among it."""
_FOLDS, _TREES = 2, 100
_CONFIDENCE = 0.95
_FOREST = {"learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 200, "verbose": -1, "num_threads": 1}


@dataclass(frozen=True)
class CashLoans:
    """Applications for cash loans, shape (n,) each: the annuity, what is adjusted for, default, and the true effect."""

    annuity: Floats
    adjusted: Floats
    default: Floats
    true_effect: float

    def matrix(self, annuity: Floats) -> Floats:
        """What the models read for these annuities; ratios let trees follow a term or a burden, shape (n, columns)."""
        credit, goods, income, age = self.adjusted.T
        return np.column_stack([annuity / credit, annuity / income, credit / goods, credit, goods, income, age])


def draw_loans(clients: int, scale: float, seed: int) -> CashLoans:
    """Draw clients, and by intervening in the generator how many more of them would default."""
    chunk = Chunk(seed, Split.TRAIN, 0, np.arange(1, clients + 1))
    drawn, changed = draw_clients(chunk), draw_clients(chunk, smaller_annuity(scale))
    cash = drawn.application["NAME_CONTRACT_TYPE"].equals("Cash loans")  # type: ignore[union-attr]
    return CashLoans(
        annuity=_column(drawn, "AMT_ANNUITY")[cash],
        adjusted=np.column_stack([_column(drawn, name)[cash] for name in ADJUSTMENT]),
        default=draw_target(chunk, drawn)[cash].astype(np.float64),
        true_effect=float((changed.true_pd - drawn.true_pd)[cash].mean()),
    )


def smaller_annuity(scale: float) -> Callable[[Application], Application]:
    """The intervention on an application."""

    def intervene(application: Application) -> Application:
        loan = application.loan
        return replace(application, loan=replace(loan, instalment=loan.instalment * scale))

    return intervene


def _column(clients: Clients, name: str) -> Floats:
    return np.asarray(clients.application[name], dtype=np.float64)


def naive_effect(loans: CashLoans, scale: float) -> float:
    """The effect as a model of the annuity alone has it: large annuities go with large loans to richer clients."""
    model = _fitted(loans.annuity[:, np.newaxis], loans.default)
    moved = model(loans.annuity[:, np.newaxis] * scale) - model(loans.annuity[:, np.newaxis])
    return float(moved.mean())


def read_effect(loans: CashLoans, scale: float) -> float:
    """The effect as a model with all columns has it if its annuity is moved; no interval says how wrong that is."""
    model = _fitted(loans.matrix(loans.annuity), loans.default)
    return float((model(loans.matrix(loans.annuity * scale)) - model(loans.matrix(loans.annuity))).mean())


def causal_effect(loans: CashLoans, scale: float, seed: int) -> Estimate:
    """The doubly robust estimate: right if either the model of default or that of the annuity is.

    I. Diaz and M. van der Laan, Biometrics 68, 2012, for interventions that shift what was observed. Both models are
    fitted on other folds than they are read on (V. Chernozhukov and others, Econometrics Journal 21, 2018).
    """
    fold = np.random.default_rng(seed).permutation(len(loans.default)) % _FOLDS
    now, then = loans.matrix(loans.annuity), loans.matrix(loans.annuity * scale)
    gained = np.empty(len(fold))
    for number in range(_FOLDS):
        own, others = fold == number, fold != number
        default = _fitted(now[others], loans.default[others])
        weight = _density_ratio(now[others], then[others], now[own])
        surprise = loans.default[own] - default(now[own])
        gained[own] = default(then[own]) + weight * surprise - loans.default[own]
    return normal_estimate(float(gained.mean()), float(gained.std(ddof=1)) / np.sqrt(len(gained)), _CONFIDENCE)


def _density_ratio(now: Floats, then: Floats, rows: Floats) -> Floats:
    """How much likelier an application is after the intervention than before: the odds of telling the two apart."""
    both = np.concatenate([now, then])
    told = _fitted(both, np.repeat([0.0, 1.0], [len(now), len(then)]))(rows)
    return np.asarray(told / (1 - told))


def _fitted(matrix: Floats, target: Floats) -> Callable[[Floats], Floats]:
    booster = lgb.train({"objective": "binary", "seed": 0, **_FOREST}, lgb.Dataset(matrix, target), _TREES)
    return lambda rows: np.asarray(booster.predict(rows))


def lines(clients: int, scale: float, seed: int) -> Iterator[str]:
    """The three readings of an intervention beside its true effect."""
    loans = draw_loans(clients, scale, seed)
    yield f"annuity times {scale:g}, {len(loans.default):,} cash loans, default rate {loans.default.mean():.4f}"
    yield f"a model of the annuity alone   {naive_effect(loans, scale):+.4f}"
    yield f"a model of all columns         {read_effect(loans, scale):+.4f}"
    found = causal_effect(loans, scale, seed)
    yield f"doubly robust                  {found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
    yield f"true                           {loans.true_effect:+.4f}"


def main(clients: str = "60000", scale: str = "0.9", seed: str = "1") -> None:
    """Print what an intervention does."""
    for line in lines(int(clients), float(scale), int(seed)):
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
