"""The decision log: the format of records, and how they are written, closed and read."""
