"""THE definition of raw columns and features. Training, service, batch jobs and monitoring all import it."""

from __future__ import annotations

from .application import APPLICATION
from .catalogue import CATALOGUE, DEFINITION_DIGEST, select
from .column import MISSING_WORDS, Calendar, Column, Kind, Protected, is_missing_word
from .columns import Columns, concatenate
from .errors import ColumnsError, FeatureError, FileError, SchemaError, SettingsError
from .feature import Feature, FeatureSet
from .files import Batch, File, Table, open_file, open_table, read_table
from .fitting import fit_features
from .heartbeat import Heartbeat, PeriodicThread
from .reading import printable, read_regular, read_yaml
from .record import LONGEST_CLIENT_ID, Application, ClientId, Record, columns_of
from .schema import Schema
from .settings import SETTINGS_BYTES, FeatureSettings, Settings
from .state import FeatureState
from .transformer import FeatureTransformer
from .values import as_client_ids, as_numbers, as_texts, as_whole_numbers
from .violations import Violation, find_violations, merge_violations

__all__ = [
    "APPLICATION",
    "CATALOGUE",
    "DEFINITION_DIGEST",
    "LONGEST_CLIENT_ID",
    "MISSING_WORDS",
    "SETTINGS_BYTES",
    "Application",
    "Batch",
    "Calendar",
    "ClientId",
    "Column",
    "Columns",
    "ColumnsError",
    "Feature",
    "FeatureError",
    "FeatureSet",
    "FeatureSettings",
    "FeatureState",
    "FeatureTransformer",
    "File",
    "FileError",
    "Heartbeat",
    "Kind",
    "PeriodicThread",
    "Protected",
    "Record",
    "Schema",
    "SchemaError",
    "Settings",
    "SettingsError",
    "Table",
    "Violation",
    "as_client_ids",
    "as_numbers",
    "as_texts",
    "as_whole_numbers",
    "columns_of",
    "concatenate",
    "find_violations",
    "fit_features",
    "is_missing_word",
    "merge_violations",
    "open_file",
    "open_table",
    "printable",
    "read_regular",
    "read_table",
    "read_yaml",
    "select",
]
