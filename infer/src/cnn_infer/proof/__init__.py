"""Proof that a machine computes what was exported: replays, certificates, comparisons of files."""
