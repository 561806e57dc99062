"""THE definition of raw columns and features. Training, service, batch jobs and monitoring all import it."""
