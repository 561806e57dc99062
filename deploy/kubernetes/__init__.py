"""The manifests of Kubernetes: `python -m deploy.kubernetes check`."""
