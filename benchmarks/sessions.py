"""Plain ONNX Runtime sessions, without cnn_infer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import onnxruntime


def one_thread_session(model: bytes, profile: Path | None = None) -> onnxruntime.InferenceSession:
    """Open a model on the CPU with one thread.

    Args:
        model: The content of an ONNX file.
        profile: A folder. If given, the session profiles itself, writes the profile there when it ends, and writes
            the optimised graph there as ``running.onnx``.
    """
    import onnxruntime  # here, because processes that measure OpenVINO must not load it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile / "profile")
        options.optimized_model_filepath = str(profile / "running.onnx")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
