"""Figures and a report show a model to those who judge it."""
