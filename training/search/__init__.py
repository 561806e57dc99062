"""Searches: the parameters of trees, and models that approve protected groups more alike."""
