"""What is shown of a model: figures, and the report for those who judge it."""
