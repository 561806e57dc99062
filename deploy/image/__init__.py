"""The container image of a Bento: `python -m deploy.image build|check`."""
