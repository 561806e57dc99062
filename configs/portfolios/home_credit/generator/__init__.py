"""Generates applications with known default probabilities, in the layout of Kaggle's "Home Credit Default Risk".

`dataset.synthesize` writes them; `training.generation` says what a generator of any portfolio offers.
"""
