"""Which picture files, in which order."""
