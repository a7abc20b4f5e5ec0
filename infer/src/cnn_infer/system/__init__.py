"""Operating system: atomic file writes, Ctrl-C, and a description of the machine."""
