"""Experiments: models, features and ways of sampling compared on the same folds by paired differences."""
