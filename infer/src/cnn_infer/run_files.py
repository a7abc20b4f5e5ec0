"""Names of the files in a run folder. cnn-train and cnn-export write them; all three packages read some of them."""

RUNS = "runs"
"""The folder that holds the run folders, relative to the working directory."""

# cnn-train
WEIGHTS = "model.safetensors"
SPEC = "spec.json"
CONFIG = "config.toml"
METRICS = "metrics.jsonl"
REPORT = "report.json"
CHECKPOINT = "checkpoint.pt"
LOCK = ".lock"
CURVES = "curves.png"
CONFUSION = "confusion.png"
MISTAKES = "mistakes.png"
RELIABILITY = "reliability.png"
SAMPLES = "samples.png"
JOB = "job.json"

_FIGURES = (CURVES, CONFUSION, MISTAKES, RELIABILITY, SAMPLES)
TRAINING_FILES = (WEIGHTS, SPEC, CONFIG, METRICS, REPORT, CHECKPOINT, JOB, *_FIGURES)
"""Every file that cnn-train writes, except the lock."""

# cnn-export
FP32_MODEL = "model.onnx"
HALF_MODEL = "model.half.onnx"
INT8_MODEL = "model.int8.onnx"
REJECTED_MODEL = "model.int8.rejected.onnx"
EXPORT_REPORT = "export.json"
FAILED_REPORT = "export.failed.json"
CANDIDATES = "candidates.png"
EXPORT_RELIABILITY = "reliability.export.png"

_MODELS = (FP32_MODEL, HALF_MODEL, INT8_MODEL, REJECTED_MODEL)
EXPORT_FILES = (*_MODELS, EXPORT_REPORT, FAILED_REPORT, CANDIDATES, EXPORT_RELIABILITY)
"""Every file that cnn-export adds to a run folder."""
