"""The float ONNX graph, and passes over graphs."""
