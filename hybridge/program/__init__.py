"""What the three programs have in common: command line, log, signals, limits, files of settings."""
