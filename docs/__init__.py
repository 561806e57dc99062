"""The documentation site: the pages written by hand, and those made from the code, the commands and the settings."""
