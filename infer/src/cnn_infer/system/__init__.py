"""Operating system: atomic file writes, Ctrl-C, names of files, warnings, and a description of the machine."""
