"""Versions of models: tracked and registered in MLflow, promoted, revised, audited, and imported into BentoML."""
