"""Conformance vectors: files from which the author of a reader tests it, stage by stage."""
