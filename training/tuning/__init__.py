"""Hyper-parameter search: seeded, pruned, resumable, and judged on rows that it never saw."""
