"""The record of a rehearsal as a table."""

from __future__ import annotations

from deploy.rehearsal.report import table


def test_an_act_is_a_row_with_what_was_not_answered() -> None:
    record = {
        "date": "2026-01-01",
        "command": "make rehearse",
        "kubernetes": "v1.20.2",
        "install": {"seconds": 2.0},
        "eviction": {"evictions": ["evicted", "refused"], "requests": {"200": 1200}},
        "out of memory": {"requests": {"200": 10, "ConnectionResetError": 2}, "said": ["no"]},
    }
    assert table(record).splitlines() == [
        "Kubernetes v1.20.2, 2026-01-01, `make rehearse`.",
        "",
        "| act | answered | not answered | |",
        "|---|---|---|---|",
        "| eviction | 1,200 | none | evictions: evicted, refused |",
        "| out of memory | 10 | 2 ConnectionResetError |  |",
    ]
