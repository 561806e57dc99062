"""Pods for a load, and what a million decisions cost, from the measured figures: `python -m deploy.capacity`."""
