"""``cnn-export --web``: what it refuses. tests/browser opens what it writes."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from cnn_export import ExportError
from cnn_export.cli import command
from cnn_export.web import site
from cnn_train import Run

COMMAND = Path(sys.executable).with_name("cnn-export")
WEB = Path(__file__).parents[2] / "export" / "web"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--vectors", "vectors"], "--vectors and --web exclude each other: pass one of them"),
        (["--explain"], "--explain and --web exclude each other: pass one of them"),
        (["--data", "photos"], "no effect with --web alone: --data"),
    ],
)
def test_options_without_effect_are_refused(options: list[str], line: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND, ".", "--web", "page", *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"cnn-export: {line}\n")
    assert list(tmp_path.iterdir()) == []


def test_one_command_exports_and_writes_the_page(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "assets" / "vendor").mkdir(parents=True)
    monkeypatch.setattr(site, "ASSETS", tmp_path / "assets")
    done = CliRunner().invoke(command, [str(run.path), "--opset", "19", "--web", str(tmp_path / "page")])
    assert done.exit_code == 0, done.output
    assert "page           " in done.output
    # another address than localhost is no secure context: no camera, no work without a network
    assert "page --bind 127.0.0.1, then open http://localhost:8000\n" in done.output
    model = run.path / "model.onnx"
    assert (tmp_path / "page" / "models" / "model.onnx").read_bytes() == model.read_bytes()
    written = model.stat().st_mtime_ns
    again = CliRunner().invoke(command, [str(run.path), "--web", str(tmp_path / "again")])
    assert (again.exit_code, model.stat().st_mtime_ns) == (0, written)  # nothing is exported again


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "ASSETS", tmp_path)
    with pytest.raises(ExportError, match="run make web in the source folder, which needs npm"):
        site.write_site(tmp_path / "page", tmp_path)
    (tmp_path / "vendor").mkdir()
    with pytest.raises(ExportError, match=r"has no model\.onnx: export it first, or name another run"):
        site.write_site(tmp_path / "page", tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ExportError, match=r"export again"):
        site.write_site(tmp_path / "page", tmp_path)
    with pytest.raises(ExportError, match="not empty"):
        site.write_site(tmp_path, tmp_path)
    assert not (tmp_path / "page").exists()


def test_every_package_of_the_page_has_its_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specification = importlib.util.spec_from_file_location("assemble", WEB / "assemble.py")
    assert specification is not None
    assert specification.loader is not None
    assemble = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(assemble)
    shutil.copytree(WEB / "licenses", tmp_path / "licenses")
    with pytest.raises(SystemExit, match="no licence of @noble/hashes: write export/web/licenses/noble-hashes"):
        assemble.check_licences(tmp_path / "licenses")
    for name in assemble.VENDORED.values():  # the packages bring these
        if name.startswith("licenses/"):
            (tmp_path / name).write_text("MIT")
    assemble.check_licences(tmp_path / "licenses")
    packages = json.loads((WEB / "package.json").read_text())
    packages["dependencies"]["@cwasm/webp"] = "9.9.9"
    (tmp_path / "package.json").write_text(json.dumps(packages))
    monkeypatch.setattr(assemble, "WEB", tmp_path)
    with pytest.raises(SystemExit, match=r"cwasm-webp\.txt is not about @cwasm/webp 9\.9\.9"):
        assemble.check_licences(tmp_path / "licenses")
