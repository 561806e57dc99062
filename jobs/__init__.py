"""What every command shares: command line, signals, progress, files written whole, locks, strict settings."""
