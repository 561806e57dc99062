"""Two populations differ: clients of the training window, and clients who applied later.

`LATER` (application_test) differs from `TRAINING` (application_train) as follows; everything else, above all the model
of TRUE_PD, is the same, so this is covariate shift without concept drift.

======================================  ===============================================================
column                                  application_test against application_train
======================================  ===============================================================
NAME_CONTRACT_TYPE                      revolving loans fall from 10 % to 1 %
AMT_GOODS_PRICE, AMT_CREDIT             about 15 % smaller; a third instead of 28 % without insurance
AMT_ANNUITY                             higher although the credit is smaller, because terms are shorter
EXT_SOURCE_1                            missing in 43 % instead of 56 %
EXT_SOURCE_3, AMT_REQ_CREDIT_BUREAU_*   without a bureau file: 12.4 % instead of 13.5 %
AMT_REQ_CREDIT_BUREAU_HOUR .. MON       almost always 0
AMT_REQ_CREDIT_BUREAU_QRT               mean 0.54 instead of 0.27
FLAG_EMAIL                              15 % instead of 6 %
NAME_TYPE_SUITE                         missing in 1.8 % instead of 0.4 %
FLAG_DOCUMENT_3                         higher, since cash loans ask for it
FLAG_DOCUMENT_2, 4, 10, 12 .. 17, 19 .. constant 0; FLAG_DOCUMENT_11 and 18 nearly so
======================================  ===============================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

import numpy as np
from scipy.special import expit

from configs.portfolios.home_credit.generator.draws import Booleans, CountDistribution, Floats, Integers, Marginal


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Settings that differ between the training window and the time after it.

    Shares are in 0..1. `terms` maps the months of a cash loan to its share, shortest first; `enquiries` maps a window
    of AMT_REQ_CREDIT_BUREAU_* to its counts; `rare_documents` maps a document number to the share that hands it in.
    """

    revolving: float
    price: Marginal
    uninsured: float
    terms: Mapping[int, float]
    source_1_missing: float
    not_in_bureau: float
    email: float
    suite_missing: float
    enquiries: Mapping[str, CountDistribution]
    rare_documents: Mapping[int, float]


TRAINING = Population(
    revolving=0.097,
    price=Marginal(
        (40_500, 67_500, 130_000, 170_000, 247_500, 440_000, 690_000, 1_115_000, 1_260_000, 1_700_000, 3_300_000)
    ),
    uninsured=0.285,
    terms=MappingProxyType(
        {9: 0.06, 12: 0.15, 18: 0.12, 24: 0.24, 30: 0.1, 36: 0.15, 42: 0.05, 48: 0.06, 54: 0.03, 60: 0.04}
    ),
    source_1_missing=0.565,
    not_in_bureau=0.135,
    email=0.056,
    suite_missing=0.004,
    enquiries=MappingProxyType(
        {
            "HOUR": CountDistribution((0.9936, 0.0063, 0.0001)),
            "DAY": CountDistribution((0.9944, 0.0047, 0.0004, 0.0003, 0.0002)),
            "WEEK": CountDistribution((0.9674, 0.0315, 0.0006, 0.0004, 0.0001)),
            "MON": CountDistribution((0.83, 0.128, 0.02, 0.008, 0.005, 0.003, 0.002, 0.001, 0.001, 0.001, 0.001)),
            "QRT": CountDistribution((0.806, 0.131, 0.053, 0.007, 0.0025, 0.0005)),
            "YEAR": CountDistribution((0.26, 0.24, 0.19, 0.128, 0.082, 0.047, 0.027, 0.015, 0.007, 0.003, 0.001)),
        }
    ),
    rare_documents=MappingProxyType(
        {
            2: 5e-5, 4: 8e-5, 7: 2e-4, 9: 0.004, 10: 2e-5, 11: 0.004, 12: 1e-5, 13: 0.003, 14: 0.0025, 15: 0.001,
            16: 0.009, 17: 2.5e-4, 18: 0.0075, 19: 6e-4, 20: 5e-4, 21: 3e-4,
        }
    ),
)  # fmt: skip

LATER = Population(
    revolving=0.008,
    price=Marginal(
        (40_500, 58_500, 103_500, 135_000, 225_000, 380_000, 585_000, 900_000, 1_125_000, 1_750_000, 2_250_000)
    ),
    uninsured=0.34,
    terms=MappingProxyType(
        {9: 0.15, 12: 0.23, 18: 0.22, 24: 0.19, 30: 0.08, 36: 0.07, 42: 0.03, 48: 0.02, 54: 0.01, 60: 0.0}
    ),
    source_1_missing=0.43,
    not_in_bureau=0.124,
    email=0.154,
    suite_missing=0.018,
    enquiries=MappingProxyType(
        {
            "HOUR": CountDistribution((0.998, 0.002)),
            "DAY": CountDistribution((0.999, 0.001)),
            "WEEK": CountDistribution((0.9975, 0.0025)),
            "MON": CountDistribution((0.9918, 0.0078, 0.0002, 0.0002)),
            "QRT": CountDistribution((0.557, 0.357, 0.072, 0.012, 0.0015, 0.0005)),
            "YEAR": CountDistribution((0.252, 0.211, 0.206, 0.148, 0.089, 0.044, 0.027, 0.013, 0.007, 0.003)),
        }
    ),
    rare_documents=MappingProxyType({9: 0.0045, 11: 0.001, 18: 0.002, 7: 1e-4}),
)

# A chunk bounds the memory, and each has generators of its own: another size draws other data from the same seed.
CHUNK_CLIENTS = 20_000
TEST_SHARE = 0.16
FIRST_CLIENT = 100_001
_IDENTIFIERS = 2


class Split(IntEnum):
    """The file that a client's application belongs to."""

    TRAIN = 0
    TEST = 1


class Stream(IntEnum):
    """The independent sources of randomness inside one chunk; a changed number changes the data of every seed."""

    # Histories and outcomes have streams of their own, so leaving out a table changes no other.
    APPLICATION = 0
    OUTCOME = 1
    BUREAU = 2
    BUREAU_BALANCE = 3
    PREVIOUS = 4
    SCHEDULE = 5
    POS_CASH = 6
    CARD = 7
    CARD_BALANCE = 8
    INSTALMENTS = 9


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some clients of one split; their generators depend on seed, split, position and stream alone."""

    seed: int
    split: Split
    position: int
    ids: Integers

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def population(self) -> Population:
        """The population that the clients are drawn from."""
        return TRAINING if self.split is Split.TRAIN else LATER

    def generator(self, stream: Stream) -> np.random.Generator:
        """A fresh generator: the same for the same stream, however often and in whatever order it is asked for."""
        return _generator(self.seed, self.split, self.position, stream)


def later_clients(clients: int) -> int:
    """The number of clients in application_test where application_train has `clients`."""
    return round(clients * TEST_SHARE)


def chunks(clients: int, seed: int) -> Iterator[Chunk]:
    """The chunks of application_train, then those of application_test, identifiers ascending within each."""
    later = _is_later(clients, seed)
    for split, members in ((Split.TRAIN, ~later), (Split.TEST, later)):
        ids = FIRST_CLIENT + np.flatnonzero(members).astype(np.int64)
        for position, start in enumerate(range(0, len(ids), CHUNK_CLIENTS)):
            yield Chunk(seed, split, position, ids[start : start + CHUNK_CLIENTS])


def _is_later(clients: int, seed: int) -> Booleans:
    """Which identifiers belong to application_test: a random subset, as in Kaggle's files."""
    extra = later_clients(clients)
    chosen = _generator(seed, _IDENTIFIERS).choice(clients + extra, size=extra, replace=False)
    later = np.zeros(clients + extra, dtype=np.bool_)
    later[chosen] = True
    return later


def _generator(seed: int, *key: int) -> np.random.Generator:
    """The generator of one stream; keys begin with the split, or with `_IDENTIFIERS`, a number that no split has."""
    # SeedSequence hashes seed and key: a sum such as seed + position would give neighbouring seeds the same chunks.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


_CORRELATION = 0.3
# With the effects of all parts, this gives the training window its 8 % of defaults.
_INTERCEPT = -4.24
_STABILITY, _DISCIPLINE, _BURDEN, _CONDUCT = 0.42, 0.42, 0.46, 0.32
_COMPOUNDING = 0.1
_STRAIN, _STRAIN_UNDER_BURDEN = 0.12, 0.12
_WEIGHT_IN_HISTORY = 0.7


@dataclass(frozen=True, slots=True)
class Latent:
    """Standard normal risk factors, shape (n,) each; higher is riskier.

    `stability` of the client's life (EXT_SOURCE_1, tenure, phone), `discipline` in paying (EXT_SOURCE_2) and `burden`
    of debt elsewhere (EXT_SOURCE_3, enquiries) are correlated. `conduct` is independent of them and shows in no
    application column, only in the histories.
    """

    stability: Floats
    discipline: Floats
    burden: Floats
    conduct: Floats

    @property
    def lateness(self) -> Floats:
        """How badly bills are paid, standard normal: discipline and conduct, as histories show it."""
        return _seen_in_history(self.discipline, self.conduct)

    @property
    def leverage(self) -> Floats:
        """How much debt is carried, standard normal: burden and conduct, as histories show it."""
        return _seen_in_history(self.burden, self.conduct)


def _seen_in_history(factor: Floats, conduct: Floats) -> Floats:
    # `conduct` is what only a history tells: without it the history tables would add nothing to the application.
    return _WEIGHT_IN_HISTORY * factor + math.sqrt(1 - _WEIGHT_IN_HISTORY**2) * conduct


def draw_latent(rng: np.random.Generator, size: int) -> Latent:
    """Draw the risk factors of `size` clients."""
    # One shared factor gives every pair of the three the same correlation.
    shared = math.sqrt(_CORRELATION) * rng.standard_normal(size)
    own = math.sqrt(1 - _CORRELATION) * rng.standard_normal((3, size))
    stability, discipline, burden = shared + own
    return Latent(stability, discipline, burden, conduct=rng.standard_normal(size))


def true_pd(latent: Latent, *, visible: Floats, annuity_to_income: Floats) -> Floats:
    """Probability of default, shape (n,), in (0, 1).

    `visible` is the sum of the application's own effects on the log-odds.
    """
    return expit(_INTERCEPT + visible + _factors(latent) + _interactions(latent, annuity_to_income))


def _factors(latent: Latent) -> Floats:
    shown = _STABILITY * latent.stability + _DISCIPLINE * latent.discipline + _BURDEN * latent.burden
    return shown + _CONDUCT * latent.conduct


def _interactions(latent: Latent, annuity_to_income: Floats) -> Floats:
    """Two bad factors together are worse than their sum; a heavy instalment hurts most where there is other debt."""
    burden = np.maximum(latent.burden, 0)
    strain = np.clip((annuity_to_income - 0.2) / 0.1, 0, 3)
    return _COMPOUNDING * np.maximum(latent.stability, 0) * burden + strain * (_STRAIN + _STRAIN_UNDER_BURDEN * burden)
