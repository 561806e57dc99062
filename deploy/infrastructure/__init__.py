"""The infrastructure of deploy/terraform: `python -m deploy.infrastructure check|rehearse`."""
