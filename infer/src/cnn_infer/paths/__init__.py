"""Finding picture files: folders, patterns, lists of paths, and their order."""
