"""What is released, and how it gets there: `python -m deploy.release notes|check|deploy`."""
