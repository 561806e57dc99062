"""The Grafana dashboard, made from the settings."""
