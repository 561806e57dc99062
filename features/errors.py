"""Errors that the features package raises.

FeatureError
  * SchemaError        a name that is not declared
  * FileError          a file that cannot be read as a table
  * ColumnsError       a table or matrix that does not fit the declaration
  * StoreError         an address that is no feature store, or a store that cannot be written
    * StoreDownError   a store that cannot be reached, or does not answer in time
"""

from __future__ import annotations

from jobs.errors import ProjectError


class FeatureError(ProjectError):
    """Base of every error of this package."""


class SchemaError(FeatureError):
    """A column or feature name that is not declared."""


class FileError(FeatureError):
    """A file that is missing, empty, truncated or of no known format."""


class ColumnsError(FeatureError):
    """Data whose shape or columns do not fit the declaration."""


class StoreError(FeatureError):
    """An address that is no feature store, or a store that cannot be written."""


class StoreDownError(StoreError):
    """A feature store that cannot be reached, is damaged, or does not answer in time."""
