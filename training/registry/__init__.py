"""MLflow tracking and registry, and the BentoML model store."""
