"""The version of this package, sent as User-Agent."""

__version__ = "0.1.0"
