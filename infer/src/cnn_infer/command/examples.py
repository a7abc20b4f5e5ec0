"""The examples at the end of ``cnn-infer --help``."""

EXAMPLES = """\b
Examples:
  Classify one picture:
    cnn-infer holiday.jpg
  Classify a folder; write rows and report to files:
    cnn-infer photos/ --format csv --output rows.csv --report report.json
  Classify the files that another program lists:
    find /mnt -name '*.jpg' -print0 | cnn-infer - -0 --format jsonl
  Accuracy, F1 and confusion matrix on pictures in test/CLASS/:
    cnn-infer test/ --model model.onnx
  The same, with the classes in a table beside the pictures:
    cnn-infer test/ --model model.onnx --truth test/labels.csv
  Check that the model gives the same results on this machine as on the one that exported it:
    cnn-infer --verify --model model.onnx
  The same, kept as a certificate; then all machines side by side:
    cnn-infer --verify --model model.onnx --certificate box.json
    cnn-infer --fleet boxes/*.json
  Decide between fp32 and int8 on this machine:
    cnn-infer --judge model.onnx model.int8.onnx
"""
