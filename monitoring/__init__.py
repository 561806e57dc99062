"""Monitoring: records decisions in the service, and measures drift, performance and fairness."""
