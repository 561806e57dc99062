"""What Prometheus, Alertmanager and Grafana read, from templates: `python -m deploy.observability`."""
