"""Scoring turns raw columns into decisions: artefact, model, calibration, policy and batch job."""
