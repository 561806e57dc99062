"""Synthetic applications with known default probabilities, in the layout of Kaggle's "Home Credit Default Risk"."""
