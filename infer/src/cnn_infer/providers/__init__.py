"""Devices: which ONNX Runtime execution provider runs a model, and proof that it does."""
