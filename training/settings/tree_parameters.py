"""The parameters of LightGBM that a configuration may set, with their legal ranges."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from features import Settings

DRAWING_ROWS = {"subsample_freq": 1}
"""What makes `subsample` work: rows are drawn for every tree."""


class TreeParameters(Settings):
    """How single trees are grown, by the names of LightGBM's scikit-learn interface; null is LightGBM's own default.

    What makes a fit repeatable, the objective and the number of trees are not set here.
    Source: https://lightgbm.readthedocs.io/en/stable/Parameters.html
    """

    learning_rate: float = Field(gt=0, le=1)
    num_leaves: int = Field(ge=2, le=131_072)
    max_depth: int | None = Field(default=None, ge=-1, le=1000)
    """-1 is no limit."""
    min_child_samples: int | None = Field(default=None, ge=1)
    min_child_weight: float | None = Field(default=None, ge=0)
    min_split_gain: float | None = Field(default=None, ge=0)
    subsample: float | None = Field(default=None, gt=0, le=1)
    subsample_freq: int | None = Field(default=None, ge=0)
    """Trees between two draws of rows; 0 draws none, whatever `subsample` says."""
    colsample_bytree: float | None = Field(default=None, gt=0, le=1)
    colsample_bynode: float | None = Field(default=None, gt=0, le=1)
    reg_alpha: float | None = Field(default=None, ge=0)
    reg_lambda: float | None = Field(default=None, ge=0)
    path_smooth: float | None = Field(default=None, ge=0)
    extra_trees: bool | None = None
    max_bin: int | None = Field(default=None, ge=2, le=65_535)
    min_data_per_group: int | None = Field(default=None, ge=1)
    cat_smooth: float | None = Field(default=None, ge=0)
    cat_l2: float | None = Field(default=None, ge=0)
    max_cat_threshold: int | None = Field(default=None, ge=1)
    max_cat_to_onehot: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _rows_are_drawn(self) -> TreeParameters:
        if self.subsample is not None and self.subsample < 1 and not self.subsample_freq:
            raise ValueError("subsample below 1 draws no rows unless subsample_freq is at least 1")
        return self

    def stated(self) -> dict[str, Any]:
        """The parameters that are not left to LightGBM."""
        return self.model_dump(exclude_none=True)
