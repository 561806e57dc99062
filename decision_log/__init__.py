"""Decision records: their format, and how they are written, closed and read."""
