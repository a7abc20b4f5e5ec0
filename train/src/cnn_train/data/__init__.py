"""Data sets: found by name or folder, divided into splits, decoded to pixels."""
