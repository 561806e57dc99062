"""A live test of two models: its plan, its arms and its result."""
