"""A sampler whose draws depend on the trial and on the finished trials before it, and on nothing else."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial


class TrialSeededSampler(BaseSampler):
    """The tree-structured Parzen estimator (J. Bergstra et al., NIPS 2011), seeded for each trial and parameter.

    Optuna's own sampler draws from one stream, which starts again when a study is resumed in another process: trials
    would repeat.
    """

    def __init__(self, seed: int, startup_trials: int) -> None:
        self._seed = seed
        self._startup_trials = startup_trials

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        """No parameter is drawn together with another."""
        return {}

    def sample_relative(
        self,
        study: Study,  # noqa: ARG002 - Optuna's signature
        trial: FrozenTrial,  # noqa: ARG002
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Nothing, as no parameter is drawn together with another."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of one parameter of one trial."""
        entropy = [self._seed, trial.number, zlib.crc32(param_name.encode())]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        sampler = TPESampler(seed=seed, n_startup_trials=self._startup_trials)
        return sampler.sample_independent(study, trial, param_name, param_distribution)
