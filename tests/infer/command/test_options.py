"""Options that would have no effect are refused in one line, before the model is opened."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
Refused = Callable[..., str]

ROW_OPTIONS = [
    ("--output", "rows.csv"), ("--report", "r.json"), ("--threads", "1"), ("--max-pixels", "9"), ("--top", "5"),
    ("--max-bytes", "9"), ("--strict",), ("--follow-symlinks",), ("--batch-size", "2"), ("--threshold", "0.5"),
    ("--labels", "none"), ("--resume",),
]  # fmt: skip


@pytest.mark.parametrize("option", ROW_OPTIONS, ids=lambda option: option[0])
def test_row_options_have_no_effect_with_latency(refused: Refused, option: tuple[str, ...]) -> None:
    line = refused("--latency", "a.png", "--model", "absent.onnx", *option)
    assert line == f"cnn-infer: no effect with --latency: {option[0]}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--info", "--strict"), "no effect with --info: --strict"),
        (("--verify", "--strict"), "no effect with --verify: --strict"),
        (("--verify", "--strict", "--top", "3"), "no effect with --verify: --top, --strict"),
        (("--info", "--verify", "--labels", "auto"), "no effect with --info and --verify: --labels"),
        (("--verify", "--format", "table"), "no effect with --verify: --format"),
        (("--verify", "--format", "jsonl"), "no effect with --verify: --format"),
        (("--info", "--format", "csv"), "--info takes --format table or jsonl, not csv"),
        (("--info", "a.png", "--format", "csv"), "--info takes --format table or jsonl, not csv"),
        (("--latency", "a.png", "--format", "csv"), "--latency takes --format table or jsonl, not csv"),
        (("a.png", "--top", "3"), "no effect with --format table: --top (pass --format jsonl or csv)"),
        (("a.png", "--output", "o", "--top", "3"), "no effect with --format table: --top (pass --format jsonl or csv)"),
        (("a.png", "--resume"), "no effect without --output: --resume"),
        (("a.png", "-0"), "no effect without -: -0"),
        (("--info", "-0"), "no effect without -: -0"),
        (("-", "a.png", "-"), "- is named twice: standard input can be read only once"),
        (("--info", "a.png", "run/model.onnx"), "a model is named with --model: --model run/model.onnx"),
        (
            ("a.png", "--output", os.devnull, "--resume"),
            f"no effect with --output {os.devnull}: --resume (a pipe or a device keeps no rows)",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_an_option_without_effect_is_refused(refused: Refused, arguments: tuple[str, ...], message: str) -> None:
    assert refused(*arguments, "--model", "absent.onnx") == f"cnn-infer: {message}"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--info", "--format", "jsonl"),
        ("--info", "--format", "table", "--device", "cpu"),
        ("--info", "--verify", "--format", "jsonl"),
        ("--verify", "--device", "cpu"),
        ("--verify", "a.png", "--format", "csv", "--top", "1", "--strict"),
        ("--info", "a.png", "--format", "jsonl", "--top", "1"),
        ("a.png", "--threads", "auto", "--batch-size", "2", "--labels", "none", "--follow-symlinks"),
        ("a.png", "--output", os.devnull, "--report", "r.json", "--threshold", "0.5"),
        ("-", "-0", "--max-pixels", "100", "--max-bytes", "1000000"),
    ],
    ids=" ".join,
)
def test_options_with_an_effect_are_accepted(
    tmp_path: Path, models: Path, cli: Run, picture: Callable[..., Path], arguments: tuple[str, ...]
) -> None:
    picture(tmp_path / "a.png", "red")
    cli(*arguments, "--model", models / "grey.onnx", **({"input": b"a.png"} if "-" in arguments else {}))


def test_help_names_values_as_the_other_commands_do(cli: Callable[..., subprocess.CompletedProcess[bytes]]) -> None:
    shown = cli("--help").stdout
    assert b"--batch-size N " in shown
    assert b"--threshold P|certified " in shown
    assert b"RANGE" not in shown
