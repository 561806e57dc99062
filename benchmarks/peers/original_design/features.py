"""The features of the original design, in pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd

_DAYS_IN_YEAR = 365
_NOT_EMPLOYED = 365_243
_SMALL = 1e-5


def with_domain_features(frame: pd.DataFrame) -> pd.DataFrame:
    """The raw columns and the ratios, ages and counts that the original design derives from them."""
    income, credit = frame["AMT_INCOME_TOTAL"], frame["AMT_CREDIT"]
    employed = -frame["DAYS_EMPLOYED"].replace(_NOT_EMPLOYED, np.nan) / _DAYS_IN_YEAR
    external = frame[["EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3"]]
    documents = [name for name in frame.columns if name.startswith("FLAG_DOCUMENT_")]
    return frame.assign(
        AGE_YEARS=-frame["DAYS_BIRTH"] / _DAYS_IN_YEAR,
        EMPLOYMENT_YEARS=employed.clip(lower=0),
        IS_EMPLOYED=(employed > 0).astype("int64"),
        INCOME_PER_PERSON=income / (frame["CNT_FAM_MEMBERS"] + _SMALL),
        DEBT_TO_INCOME_RATIO=credit / (income + _SMALL),
        CREDIT_TO_GOODS_RATIO=credit / (frame["AMT_GOODS_PRICE"] + _SMALL),
        ANNUITY_TO_INCOME_RATIO=frame["AMT_ANNUITY"] / (income + _SMALL),
        HAS_CHILDREN=(frame["CNT_CHILDREN"] > 0).astype("int64"),
        CHILDREN_RATIO=frame["CNT_CHILDREN"] / (frame["CNT_FAM_MEMBERS"] + _SMALL),
        TOTAL_DOCUMENTS_PROVIDED=frame[documents].sum(axis=1),
        EXT_SOURCE_MEAN=external.mean(axis=1),
        EXT_SOURCE_MAX=external.max(axis=1),
        EXT_SOURCE_MIN=external.min(axis=1),
        REGION_RATING_COMBINED=frame[["REGION_RATING_CLIENT", "REGION_RATING_CLIENT_W_CITY"]].mean(axis=1),
    )
