"""What every command shares: signals, progress, files written whole, locks, strict settings, watched threads."""
