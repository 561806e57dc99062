"""From raw columns to decisions: the artefact, the model, calibration, policy and the batch job."""
