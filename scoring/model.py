"""The model computes margins from the model matrix by its fitted trees, and calibration turns them into PDs."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from scoring.blocks import MOST_LEAVES, BlockTables
from scoring.errors import ArtefactError
from scoring.trees import TreeTables, probe_rows, read_trees

# Constants of LightGBM's c_api.h: C_API_DTYPE_FLOAT64, C_API_PREDICT_RAW_SCORE, C_API_PREDICT_CONTRIB, iterations.
_FLOAT64 = 1
_RAW_SCORE = 1
_CONTRIBUTIONS = 3
_ALL_TREES = (0, -1)
_ROW_MAJOR = 1

# More threads never help one row: starting them costs more than the walk through the trees.
_ONE_THREAD = b"num_threads=1"
_BLOCK_FROM = 8
"""Rows from which on blocks are faster than anything else."""

_Handle = ctypes.c_void_p
_Integer = ctypes.POINTER(ctypes.c_int)
_Length = ctypes.POINTER(ctypes.c_int64)
_INT32 = ctypes.c_int32
_TEXT = ctypes.c_char_p
_POINTER = ctypes.c_void_p
_C_INT = ctypes.c_int

# Without argument types ctypes passes Python integers as 32 bits, which cuts a pointer in half.
_PROTOTYPES = {
    "LGBM_BoosterLoadModelFromString": (_TEXT, _Integer, ctypes.POINTER(_Handle)),
    "LGBM_BoosterFree": (_Handle,),
    "LGBM_BoosterGetNumFeature": (_Handle, _Integer),
    "LGBM_BoosterGetNumClasses": (_Handle, _Integer),
    "LGBM_BoosterNumberOfTotalModel": (_Handle, _Integer),
    "LGBM_BoosterPredictForMat": (
        _Handle, _POINTER, _C_INT, _INT32, _INT32, _C_INT, _C_INT, _C_INT, _C_INT, _TEXT, _Length, _POINTER,
    ),
    "LGBM_BoosterPredictForMatSingleRowFastInit": (
        _Handle, _C_INT, _C_INT, _C_INT, _C_INT, _INT32, _TEXT, ctypes.POINTER(_Handle),
    ),
    "LGBM_BoosterPredictForMatSingleRowFast": (_Handle, _POINTER, _Length, _POINTER),
    "LGBM_FastConfigFree": (_Handle,),
}  # fmt: skip


Tables = TypeVar("Tables", BlockTables, TreeTables)


class Model:
    """A LightGBM model read from its text; ArtefactError for other texts, and for several scores a row.

    `margins` uses `threads` threads. A row's margin has the bits of `lightgbm.Booster.predict`, for any number of
    threads and in any batch.
    """

    def __init__(self, text: str, *, threads: int = 1) -> None:
        self._booster = NativeBooster(text, threads=threads)
        if self._booster.classes != 1:
            raise ArtefactError(f"the model has {self._booster.classes} scores for a row, not one")
        self._single_row = self._booster.single_row()
        trees = read_trees(text, MOST_LEAVES)
        probe = probe_rows(trees or (), self.features)
        expected = self._booster.margins(probe)
        small = trees if trees and max(len(tree.value) for tree in trees) <= TreeTables.most_leaves else None
        self.tables = _agreeing(TreeTables(small), probe, expected) if small else None
        """The trees as tables, where all have at most eight leaves; None where LightGBM walks them."""
        self._blocks = _agreeing(BlockTables(trees, self.tables), probe, expected) if trees else None

    @property
    def features(self) -> int:
        """How many columns the model matrix has."""
        return self._booster.features

    @property
    def trees(self) -> int:
        """How many trees are added up."""
        return self._booster.trees

    def margins(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Raw log-odds of default, float64 of shape (n,), for a model matrix of shape (n, features); NaN is missing."""
        if matrix.ndim != 2 or matrix.shape[1] != self.features:
            raise ValueError(f"the model takes {self.features} features, not shape {matrix.shape}")
        if self._blocks is not None and len(matrix) >= _BLOCK_FROM:
            return self._blocks.margins(np.asarray(matrix, dtype=np.float64))
        if self.tables is not None:
            return self.tables.margins(np.asarray(matrix, dtype=np.float64))
        if len(matrix) == 1:
            return self._single_row(matrix)
        return self._booster.margins(matrix) if len(matrix) else np.empty(0)

    def patterns(self, matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The outcome pattern of each row in each tree, shape (n, trees); ArtefactError for trees of more leaves."""
        if self.tables is None:
            raise ArtefactError("trees of more than eight leaves have no outcome patterns")
        if self._blocks is not None and len(matrix) >= _BLOCK_FROM:
            return self._blocks.patterns(matrix)
        return self.tables.patterns.of(matrix)

    def contributions(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """LightGBM's path-dependent contributions, shape (n, features + 1); the last is the expected margin."""
        return self._booster.contributions(matrix)


def _agreeing(tables: Tables, probe: NDArray[np.float64], expected: NDArray[np.float64]) -> Tables | None:
    """The tables; None if they give other bits than LightGBM does, which then walks the trees itself."""
    return tables if np.array_equal(tables.margins(probe), expected) else None


# exp(710) overflows a float64; a PD of exp(-709) is 0 in any use.
_LARGEST_EXPONENT = 709.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt scaling: PD = 1 / (1 + exp(-(slope * margin + intercept))).

    It increases strictly with the margin, since the slope must be positive.
    Source: J. Platt, "Probabilistic outputs for support vector machines", 1999.
    """

    # Isotonic regression would make ties: applicants on one step could not be ranked, nor a cut-off set between them.

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.slope, self.intercept]).all() and self.slope > 0):
            raise ArtefactError("a calibration needs a positive, finite slope and a finite intercept")

    def log_odds(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated log-odds of default, same shape as `margins`."""
        return self.slope * margins + self.intercept

    def probabilities(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """PD in [0, 1], same shape as `margins`, each computed from its own margin alone.

        >>> Calibration(slope=1.0, intercept=0.0).probabilities(np.array([0.0, np.inf]))
        array([0.5, 1. ])
        """
        exponent = np.minimum(-self.log_odds(margins), _LARGEST_EXPONENT)
        return np.asarray(1.0 / (1.0 + np.exp(exponent)))

    def probability(self, margin: float) -> float:
        """PD of one margin that is not NaN, with the bits of `probabilities`."""
        # math.exp has other bits.
        return float(1.0 / (1.0 + np.exp(min(-(self.slope * margin + self.intercept), _LARGEST_EXPONENT))))

    def margin(self, probability: float) -> float:
        """The margin of a PD in (0, 1), within rounding; ValueError for 0 and 1, which no margin has.

        >>> Calibration(slope=2.0, intercept=1.0).margin(0.5)
        -0.5
        """
        return (math.log(probability) - math.log1p(-probability) - self.intercept) / self.slope


class NativeBooster:
    """The trees of a LightGBM model text; ArtefactError for any other text.

    Its margins have the bits of `lightgbm.Booster.predict`, in any batch and for any number of threads.
    """

    def __init__(self, text: str, *, threads: int) -> None:
        self._library = _library()
        self._threads = f"num_threads={threads}".encode()
        self.handle = self._loaded(text)
        self.features = self._count("LGBM_BoosterGetNumFeature")
        self.classes = self._count("LGBM_BoosterGetNumClasses")
        self.trees = self._count("LGBM_BoosterNumberOfTotalModel")

    def _loaded(self, text: str) -> _Handle:
        handle = _Handle()
        if self._library.LGBM_BoosterLoadModelFromString(text.encode(), ctypes.c_int(), handle):
            raise ArtefactError("the model text is not a LightGBM model")
        finalize(self, self._library.LGBM_BoosterFree, handle)
        return handle

    def _count(self, function: str) -> int:
        count = ctypes.c_int()
        _require(getattr(self._library, function)(self.handle, count))
        return count.value

    def margins(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Raw scores, float64 of shape (n,), of a matrix of shape (n, features)."""
        return self._predicted(matrix, _RAW_SCORE, np.empty(len(matrix)))

    def contributions(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Contributions of each feature and the expected margin, shape (n, features + 1)."""
        return self._predicted(matrix, _CONTRIBUTIONS, np.empty((len(matrix), self.features + 1)))

    def _predicted(self, matrix: NDArray[np.float64], kind: int, found: NDArray[np.float64]) -> NDArray[np.float64]:
        matrix = np.ascontiguousarray(matrix, dtype=np.float64)
        rows, columns = matrix.shape
        _require(
            self._library.LGBM_BoosterPredictForMat(
                self.handle, matrix.ctypes.data, _FLOAT64, rows, columns, _ROW_MAJOR, kind, *_ALL_TREES,
                self._threads, ctypes.c_int64(), found.ctypes.data,
            )
        )  # fmt: skip
        return found

    def single_row(self) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        """A faster `margins` for matrices of one row, if the installed LightGBM has a function for them."""
        if not hasattr(self._library, "LGBM_BoosterPredictForMatSingleRowFast"):
            return self.margins
        return _SingleRow(self).margins


class _SingleRow:
    """LightGBM's function for single rows, which reads its parameters once and not at every call."""

    def __init__(self, booster: NativeBooster) -> None:
        self._booster = booster  # must outlive the configuration
        # The interpreter lock is kept: the call takes microseconds, but a busy thread may hold a released lock for
        # five milliseconds (sys.getswitchinterval).
        library = _library(holding_lock=True)
        self._predict = library.LGBM_BoosterPredictForMatSingleRowFast
        self._configuration = _Handle()
        self._length = ctypes.pointer(ctypes.c_int64())
        _require(
            library.LGBM_BoosterPredictForMatSingleRowFastInit(
                booster.handle,
                _RAW_SCORE,
                *_ALL_TREES,
                _FLOAT64,
                booster.features,
                _ONE_THREAD,
                self._configuration,
            )
        )
        finalize(self, library.LGBM_FastConfigFree, self._configuration)

    def margins(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        matrix = np.ascontiguousarray(matrix, dtype=np.float64)
        margins = np.empty(1)
        _require(self._predict(self._configuration, matrix.ctypes.data, self._length, margins.ctypes.data))
        return margins


@cache
def _library(*, holding_lock: bool = False) -> ctypes.CDLL:
    path = _path()
    library = ctypes.PyDLL(path) if holding_lock else ctypes.CDLL(path)
    for name, arguments in _PROTOTYPES.items():
        if hasattr(library, name):
            getattr(library, name).argtypes = arguments
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    return library


def _path() -> str:
    """The library inside the installed package, or else the one that the package itself has loaded."""
    # Importing lightgbm 4.7 imports scipy, which the serving image does not install.
    package = find_spec("lightgbm")
    for folder in (package and package.submodule_search_locations) or ():
        for library in Path(folder, "lib").glob("lib_lightgbm.*"):
            return str(library)
    from lightgbm import basic

    return str(basic._LIB._name)  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way to it


def _require(status: int) -> None:
    if status:
        raise RuntimeError(f"LightGBM: {_library().LGBM_GetLastError().decode()}")
