"""MLflow tracks runs and registers models; the BentoML store holds the model that is served."""
