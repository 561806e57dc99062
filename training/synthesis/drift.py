"""The two populations: who applied in the training window, and who applied later.

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

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .copula import Counts, Marginal


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """What differs between the training window and the time after it.

    Shares are in 0..1. `terms` maps the months of a cash loan to its share, shortest first; `enquiries` maps a window
    of AMT_REQ_CREDIT_BUREAU_* to its counts; `rare_documents` maps a document number to the share that hands it in.
    """

    revolving: float
    price: Marginal
    uninsured: float
    terms: Mapping[int, float]
    source_1_missing: float
    unfiled: float
    email: float
    suite_missing: float
    enquiries: Mapping[str, Counts]
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
    unfiled=0.135,
    email=0.056,
    suite_missing=0.004,
    enquiries=MappingProxyType(
        {
            "HOUR": Counts((0.9936, 0.0063, 0.0001)),
            "DAY": Counts((0.9944, 0.0047, 0.0004, 0.0003, 0.0002)),
            "WEEK": Counts((0.9674, 0.0315, 0.0006, 0.0004, 0.0001)),
            "MON": Counts((0.83, 0.128, 0.02, 0.008, 0.005, 0.003, 0.002, 0.001, 0.001, 0.001, 0.001)),
            "QRT": Counts((0.806, 0.131, 0.053, 0.007, 0.0025, 0.0005)),
            "YEAR": Counts((0.26, 0.24, 0.19, 0.128, 0.082, 0.047, 0.027, 0.015, 0.007, 0.003, 0.001)),
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
    unfiled=0.124,
    email=0.154,
    suite_missing=0.018,
    enquiries=MappingProxyType(
        {
            "HOUR": Counts((0.998, 0.002)),
            "DAY": Counts((0.999, 0.001)),
            "WEEK": Counts((0.9975, 0.0025)),
            "MON": Counts((0.9918, 0.0078, 0.0002, 0.0002)),
            "QRT": Counts((0.557, 0.357, 0.072, 0.012, 0.0015, 0.0005)),
            "YEAR": Counts((0.252, 0.211, 0.206, 0.148, 0.089, 0.044, 0.027, 0.013, 0.007, 0.003)),
        }
    ),
    rare_documents=MappingProxyType({9: 0.0045, 11: 0.001, 18: 0.002, 7: 1e-4}),
)
