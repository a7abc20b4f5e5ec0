"""The ONNX graph: export from PyTorch, rewrites, and the graph as ONNX Runtime optimises it."""
