"""The one definition of raw columns and features: training, service, batch jobs and monitoring import it."""
