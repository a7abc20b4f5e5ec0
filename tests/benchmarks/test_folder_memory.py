"""benchmarks/folder_memory.py runs the real cnn-infer on every way to give it files."""

import json
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]


def test_every_way_to_give_files_is_measured(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path / "temporary")}
    script, model = str(ROOT / "benchmarks" / "folder_memory.py"), str(ROOT / "tests" / "infer" / "models" / "rgb.onnx")
    # the memory of the script itself must not count
    code = "import runpy, sys; large = bytearray(b'1') * (400 << 20); runpy.run_path(sys.argv[0], run_name='__main__')"
    code = f"import sys; sys.argv.pop(0); sys.path.insert(0, {str(ROOT / 'benchmarks')!r}); {code}"
    command = [sys.executable, "-c", code, script, model, "in", "--files", "20", "200", "--output", "memory.json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "memory.json").read_text())["rows"]
    assert [(row["files"], row["in"]) for row in rows] == [
        (20, "ten folders"), (200, "ten folders"), (200, "one folder"), (200, "a list"),
    ]  # fmt: skip
    assert all(20 < row["peak_mb"] < 300 for row in rows)
    assert rows[1]["of_few"] == rows[1]["peak_mb"] / rows[0]["peak_mb"]
    assert not list((tmp_path / "temporary").iterdir())
