"""Two lenders fit one model by LightGBM's own sockets: no row leaves its lender. What it is worth, in AUC.

python -m examples.federated_training [CLIENTS] [SEED]

Each lender is a process that draws its own applications, of different populations, and fits with the other. The price
is the AUC against a model of all rows in one place; the gain is that against a model of the lender's rows alone.
"""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from configs.portfolios.home_credit.generator.application import draw_clients, draw_target
from configs.portfolios.home_credit.generator.draws import Category
from configs.portfolios.home_credit.generator.population import Chunk, Split
from monitoring.measures import Estimate, auc, auc_difference

Floats = NDArray[np.float64]
LENDERS = {"first": Split.TRAIN, "second": Split.TEST}
"""Their populations: the second has hardly any revolving loans, shorter terms and smaller prices."""
_TREES, _CONFIDENCE, _SECONDS = 80, 0.95, 120
_FOREST: Mapping[str, Any] = {
    "objective": "binary", "learning_rate": 0.1, "num_leaves": 8, "min_data_in_leaf": 50, "seed": 0, "verbose": -1,
    "num_threads": 1,
}  # fmt: skip


@dataclass(frozen=True)
class LenderBook:
    """The applications of a lender, shape (n, columns), and their outcomes; categories are codes."""

    matrix: Floats
    target: NDArray[np.int64]

    @classmethod
    def drawn(cls, population: Split, clients: int, seed: int) -> LenderBook:
        """Draw the book of a population; the same seed draws the same."""
        chunk = Chunk(seed, population, 0, np.arange(1, clients + 1))
        book = draw_clients(chunk)
        columns = [each.codes if isinstance(each, Category) else each for each in book.application.values()]
        return cls(np.column_stack(columns).astype(np.float64), draw_target(chunk, book))


def fit_alone(book: LenderBook, network: Mapping[str, Any] | None = None) -> str:
    """The trees of a book, or of several with a network of the lenders."""
    data = lgb.Dataset(book.matrix, book.target, params={"verbose": -1})
    return str(lgb.train({**_FOREST, **(network or {})}, data, _TREES).model_to_string())


def fit_together(clients: int, seed: int) -> str:
    """The trees that both lenders get, each in a process of its own that reads its own rows."""
    ports = _free_ports(len(LENDERS))
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            context.Process(target=_lend, args=(rank, ports, clients, seed, Path(folder)), daemon=True)
            for rank in range(len(ports))
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(_SECONDS)
            process.kill()  # LightGBM waits without end for a lender that is gone
        texts = [file.read_text(encoding="utf-8") for file in sorted(Path(folder).iterdir())]
    if len(texts) < len(ports) or len(set(texts)) > 1:
        raise RuntimeError("the lenders did not get the same trees")
    return texts[0]


def _lend(rank: int, ports: list[int], clients: int, seed: int, folder: Path) -> None:
    book = LenderBook.drawn(list(LENDERS.values())[rank], clients, seed)
    network = {
        "machines": ",".join(f"127.0.0.1:{port}" for port in ports),
        "num_machines": len(ports),
        "local_listen_port": ports[rank],
        "time_out": 1,
        "tree_learner": "data",
        "pre_partition": True,
    }
    # The text ends with the parameters, which name this lender's port.
    (folder / str(rank)).write_text(fit_alone(book, network).partition("\nparameters:")[0], encoding="utf-8")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@dataclass(frozen=True)
class FederationPrice:
    """The AUC at one lender, and how much more the model of both has than others, with paired intervals."""

    lender: str
    federated: float
    than_pooled: Estimate
    than_alone: Estimate


def prices(clients: int, seed: int) -> Iterator[FederationPrice]:
    """Judge all models on new applications of each lender."""
    books = {name: LenderBook.drawn(population, clients, seed) for name, population in LENDERS.items()}
    pooled = LenderBook(
        np.concatenate([book.matrix for book in books.values()]),
        np.concatenate([book.target for book in books.values()]),
    )
    together, all_rows = fit_together(clients, seed), fit_alone(pooled)
    for name, population in LENDERS.items():
        new = LenderBook.drawn(population, clients, seed + 1)
        federated, in_one_place, alone = (
            np.asarray(lgb.Booster(model_str=text).predict(new.matrix))
            for text in (together, all_rows, fit_alone(books[name]))
        )
        yield FederationPrice(
            name,
            auc(new.target, federated),
            auc_difference(new.target, federated, in_one_place, _CONFIDENCE),
            auc_difference(new.target, federated, alone, _CONFIDENCE),
        )


def main(clients: str = "8000", seed: str = "1") -> None:
    """Print what the model of both lenders is worth to each."""
    for price in prices(int(clients), int(seed)):
        sys.stdout.write(
            f"{price.lender} lender: AUC {price.federated:.4f}; less that of all rows in one place {price.than_pooled};"
            f" less that of its own rows {price.than_alone}\n"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
