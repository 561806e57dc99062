"""Tools of every command: command line, signals, progress, whole files, locks, strict settings, watched threads."""
