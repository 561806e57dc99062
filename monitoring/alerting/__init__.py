"""The rules of Prometheus and the routes of Alertmanager, made from the settings."""
