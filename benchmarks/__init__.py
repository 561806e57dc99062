"""The comparison with the alternatives: the same model and the same applications, served in ten ways."""
