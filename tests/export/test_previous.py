"""A new export names what the earlier one of the same folder had and it leaves out."""

import json
from pathlib import Path

import pytest
from cnn_export import export
from cnn_export.options import Settings
from cnn_export.previous import left_out
from cnn_train import Run

EVIDENCE = "the earlier export had the output evidence: add --evidence to keep it"
STRANGERS = "the earlier export had the output strangeness: add --strangers=25.0% to keep it"
THRESHOLD = "the earlier export had a certified threshold: add --max-error=50.0% to keep it"


def test_parts_of_the_earlier_export_that_are_left_out_are_named(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def warned() -> list[str]:
        found = [record.message for record in caplog.records if "the earlier export" in record.message]
        caplog.clear()
        return found

    caplog.set_level("WARNING", "cnn_export")
    export(run, evidence=True, strangers=0.25)
    assert warned() == []
    export(run, max_error=0.5)
    assert warned() == [EVIDENCE, STRANGERS]
    export(run)
    assert warned() == [THRESHOLD]


@pytest.mark.parametrize(
    ("file", "quantize", "named"),
    [("model.int8.onnx", False, True), ("model.int8.onnx", True, False), ("model.int8.rejected.onnx", False, False)],
)
def test_an_int8_model_that_is_left_out_is_named(file: str, quantize: bool, named: bool, tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text(json.dumps({"int8": {"file": file}}))
    expected = ["the earlier export had an int8 model: add --quantize to keep it"] if named else []
    assert left_out(tmp_path, Settings(quantize=quantize)) == expected


@pytest.mark.parametrize("content", ["", "[]", '{"evidence": 1}', json.dumps({"strangers": {"fp32": {"rate": None}}})])
def test_a_damaged_report_of_the_earlier_export_is_no_obstacle(content: str, run: Run) -> None:
    report = Path(run.path) / "export.json"
    report.write_text(content)
    export(run)
    assert json.loads(report.read_text())["ship"] == "model.onnx"
