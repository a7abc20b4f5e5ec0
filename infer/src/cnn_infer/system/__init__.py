"""Operating system: atomic file writes, Ctrl-C, names of files, threads, warnings, and a description of the machine."""
