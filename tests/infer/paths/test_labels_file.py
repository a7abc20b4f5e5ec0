"""Labels files as people have them: encodings, delimiters, quotes, JSON lines, and one line for each mistake."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cnn_infer.errors import InputError
from cnn_infer.paths.labels_file import COLUMNS, LONGEST, is_labels_file, read_rows

ROWS = [("cat/1.jpg", "cat"), ("Bär/2.jpg", "Bär, braun"), ("dog/3.jpg", "")]


def found(path: Path, columns: tuple[str, str] = COLUMNS) -> list[tuple[str, str]]:
    return [(row.name, row.label) for row in read_rows(path, columns)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_encodings_line_ends_and_delimiters(tmp_path: Path, encoding: str, end: str, delimiter: str) -> None:
    quoted = [f'"{name}"{delimiter} 7 {delimiter}"{label}"' for name, label in ROWS]
    text = end.join([f"file_name{delimiter}size{delimiter}label", *quoted, "", ""])
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    assert found(tmp_path / "labels.csv") == ROWS


def test_json_lines_and_other_columns(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text(
        '{"image": "a\\\\1.jpg", "target": 3, "other": [1]}\n\n'
        '{"image": "./a//2.jpg", "target": null}\n{"image": "b.jpg"}\n'
    )
    assert found(tmp_path / "labels.jsonl", ("image", "target")) == [("a/1.jpg", "3"), ("a/2.jpg", ""), ("b.jpg", "")]


def test_json_lines_name_files_whose_names_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"B\xe4r.jpg")
    (tmp_path / "labels.jsonl").write_text(json.dumps({"file_name": name, "label": "cat"}))
    assert found(tmp_path / "labels.jsonl") == [(name, "cat")]


def test_splits_and_groups(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text('split,label,file_name,group\n Train ,cat,"a\n.jpg", p1\n,dog,b.jpg,\n')
    rows = list(read_rows(tmp_path / "labels.csv"))
    assert [(row.line, row.split, row.group) for row in rows] == [(3, "Train", "p1"), (4, "", "")]
    assert rows[0].name == "a\n.jpg"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "", "is empty: its first line must name the columns, such as file_name,label"),
        ("a.csv", "1.jpg,cat\n", "has no column 'file_name' and no 'label'; it has '1.jpg', 'cat': name the columns"),
        (
            "a.csv",
            "id;label\n1;cat\n",
            "has no column 'file_name'; it has 'id', 'label': name the columns .* --columns",
        ),
        ("a.csv", "file_name:label\n", "has no column 'file_name' and no 'label'; it has 'file_name:label'"),
        ("a.csv", "label,file_name,label\n", "has two columns 'label': rename one"),
        ("a.csv", "file_name,label\n1.jpg,cat, black\n", "line 2 has 3 values, but the first line names 2 columns"),
        ("a.csv", "file_name,label\n1.jpg,cat\n2.jpg\n", "line 3 has 1 value, but"),
        ("a.csv", 'file_name,label\n1.jpg,"cat\n', "line 2 is not CSV: unexpected end of data"),
        ("a.csv", 'file_name,label\n"1"2.jpg,cat\n', "line 2 is not CSV: ',' expected after '\"'"),
        ("a.csv", "file_name,label\n" + "x" * (LONGEST + 1), "line 2 has more than 1,048,576 characters"),
        ("a.csv", "file_name,label\n/data/1.jpg,cat\n", "line 2: '/data/1.jpg' is an absolute path"),
        ("a.csv", "file_name,label\nC:\\data\\1.jpg,cat\n", r"line 2: 'C:\\\\data\\\\1.jpg' is an absolute path"),
        ("a.csv", "file_name,label\nx/../../1.jpg,cat\n", "line 2: 'x/../../1.jpg' leaves the folder"),
        ("a.csv", "file_name,label\n..\\1.jpg,cat\n", "leaves the folder of the labels file"),
        ("a.csv", "file_name,label\n,cat\n", "line 2 names no file"),
        ("a.csv", "file_name,label\na\0.jpg,cat\n", "line 2"),
        ("a.csv", "file_name,label\nB\udce4r.jpg,cat\n", "is not UTF-8 text: save it as UTF-8"),
        ("a.jsonl", '{"file_name": "1.jpg"}\n', "has no column 'label'; it has 'file_name'"),
        ("a.jsonl", '{"file_name": "1.jpg", "label": "cat"\n', "line 1 is not JSON"),
        ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("a.jsonl", '\n{"file_name": "1.jpg", "label": ["cat"]}\n', "line 2: label must be a text or a whole number"),
        ("a.jsonl", '{"file_name": "1.jpg", "label": "\\ud800"}\n', "line 1: label is not Unicode"),
        ("a.jsonl", '{"file_name": "1.jpg", "label": "\\udce4"}\n', "line 1: label is not Unicode"),
        ("a.jsonl", '{"file_name": "\\ud800", "label": "cat"}\n', "line 1: file_name is not Unicode"),
        (
            "a.jsonl",
            '{"file_name": "1.jpg", "label": true}\n',
            "line 1: label must be a text or a whole number, not true",
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=reason) as caught:
        found(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_names_of_labels_files(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    assert is_labels_file("train.CSV")
    assert is_labels_file("metadata.jsonl")
    assert not is_labels_file("photos")
    assert not is_labels_file(tmp_path / "folder.csv")
    with pytest.raises(InputError, match=r"cannot read .*none\.csv: No such file"):
        found(tmp_path / "none.csv")
