"""Tools of every command: signals, progress, files written whole, locks, strict settings, watched threads."""
