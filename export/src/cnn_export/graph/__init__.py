"""The ONNX graph: export from PyTorch, rewrites, and what ONNX Runtime makes of it."""
