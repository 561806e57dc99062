"""What became of the model: recording decisions, drift, performance, fairness, reports."""
