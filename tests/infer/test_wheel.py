"""The wheel of cnn-infer works alone, in a virtual environment without torch, onnx and scikit-learn.

So does the image that examples/Dockerfile makes of it: its steps run here without Docker.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cnn_infer import Classifier

ROOT = Path(__file__).parents[2]
ABSENT = ("torch", "torchvision", "onnx", "onnxscript", "sklearn", "scipy", "matplotlib", "cnn_train", "cnn_export")
SCRIPT = f"""
import importlib.util, json, sys
from cnn_infer import Classifier, evaluate, verify
found = [name for name in {ABSENT!r} if importlib.util.find_spec(name)]
with Classifier(sys.argv[1]) as classifier:
    label = classifier.predict(sys.argv[2] + "/red/a.png").label
    report = evaluate(classifier, [sys.argv[2]])
    passed = all(replay.passed for replay in verify(classifier))
loaded = [name for name in {ABSENT!r} if name in sys.modules]
print(json.dumps([found, loaded, label, report.accuracy, passed, sys.modules["cnn_infer"].__file__]))
"""

SHORT = (
    "from cnn_infer.proof import side_by_side; side_by_side.SECONDS = 0\nfrom cnn_infer.__main__ import main; main()"
)
"""The command with a short measurement."""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a virtual environment with cnn-infer[cpu] and its dependencies."""
    if not (ROOT / "infer" / "pyproject.toml").exists():
        pytest.skip("not in a checkout")
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    made = subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT / "infer"], capture_output=True, text=True, check=False
    )
    if made.returncode and ("Connection" in made.stderr or "No matching distribution" in made.stderr):
        pytest.skip("the build tools are not installed, and the registry cannot be reached")
    assert made.returncode == 0, made.stderr
    (wheel,) = folder.glob("cnn_infer-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert all(name.startswith("cnn_infer") for name in names)
    assert {"cnn_infer/schema/spec.schema.json", "cnn_infer/page/templates/run.html.jinja"} <= {*names}
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    installed = subprocess.run(
        [*pip, "--python", python, "install", f"cnn-infer[cpu] @ {wheel.as_uri()}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode and "Connection" in installed.stderr:
        pytest.skip("the registry cannot be reached")
    assert installed.returncode == 0, installed.stderr
    return folder / "venv"


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    for name, colour in {"red": (220, 10, 10), "blue": (10, 10, 220)}.items():
        picture(tmp_path / "in" / name / "a.png", colour)
    return tmp_path / "in"


def test_python_predicts_evaluates_and_verifies(bare: Path, folder: Path, models: Path) -> None:
    text = run(bare / "bin" / "python", "-c", SCRIPT, models / "rgb.onnx", folder, cwd=folder)
    found, loaded, label, accuracy, passed, where = json.loads(text)
    assert (found, loaded) == ([], [])
    assert (label, accuracy, passed) == ("red", 1.0, True)
    assert where.startswith(str(bare))


def test_the_command_predicts_evaluates_and_verifies(bare: Path, folder: Path, models: Path) -> None:
    command = (bare / "bin" / "cnn-infer", folder, "--model", models / "rgb.onnx", "--verify")
    rows = run(*command, "--format", "csv", "--report", "report.json", cwd=folder.parent).splitlines()
    assert [row.split(",")[:3] for row in rows[1:]] == [
        [str(folder / "blue" / "a.png"), "blue", "2"],
        [str(folder / "red" / "a.png"), "red", "0"],
    ]
    assert json.loads((folder.parent / "report.json").read_text())["accuracy"] == 1.0


def test_the_command_proves_and_judges_a_device(
    bare: Path, tmp_path: Path, models: Path, rgb: Classifier, with_metadata: Callable[[str, str, str], bytes]
) -> None:
    """A certificate with --verify, one with --judge on two files of one export, and the fleet of both."""
    spec = json.loads(rgb.spec.to_json())
    proof = {"test": {"flips": 0, "accuracy_int8": 0.9}, "verdict": {"good_enough": True, "reason": ""}}
    spec["details"] |= {"precision": "int8", "parity": {"fp32_against_int8": proof}}
    (tmp_path / "model.onnx").write_bytes((models / "rgb.onnx").read_bytes())
    (tmp_path / "model.int8.onnx").write_bytes(with_metadata("rgb.onnx", "cnn.spec", json.dumps(spec)))
    command = bare / "bin" / "cnn-infer"
    short = (bare / "bin" / "python", "-c", SHORT, "--judge", "model.onnx", "model.int8.onnx", "--format", "jsonl")
    judged = json.loads(run(*short, "--certificate", "b.json", cwd=tmp_path))
    assert Path(judged["ship"]).name in ("model.onnx", "model.int8.onnx")  # they are as fast as each other
    run(command, "--verify", "--model", judged["ship"], "--certificate", "a.json", cwd=tmp_path)
    certificates = [json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json")]
    assert [certificate["passed"] for certificate in certificates] == [True, True]
    assert certificates[1]["judgement"]["ship"] == judged["ship"]
    assert "a.json" in run(command, "--fleet", "a.json", "b.json", cwd=tmp_path)


DOCKERFILE = ROOT / "examples" / "Dockerfile"


READ_ONLY = """
mount --bind / /mnt
mount -o remount,bind,ro /mnt
mount -t tmpfs none /mnt/tmp
mount --bind /opt /mnt/opt
mount -o remount,bind,ro /mnt/opt
mount -t proc none /mnt/proc
mount --rbind /dev /mnt/dev
export HOME=/
"""
"""A root that cannot be written but for /tmp, below /mnt: as ``docker run --read-only --tmpfs /tmp`` gives it."""


def steps() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile and their arguments."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.M).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in text.splitlines() if line]


def words(argument: str) -> str:
    """The command line of a RUN, ENTRYPOINT or CMD in the form of a shell or of a list."""
    return shlex.join(json.loads(argument)) if argument.startswith("[") else argument


def test_the_dockerfile_is_short_and_its_last_user_has_no_rights() -> None:
    found = steps()
    assert len(found) <= 20
    for name, argument in found:
        assert name in ("FROM", "COPY", "RUN", "ENV", "USER", "ENTRYPOINT", "CMD"), name
        assert name != "FROM" or re.fullmatch(r"python:[\d.]+-slim( AS \w+)?", argument)  # no host of a registry
    assert "://" not in DOCKERFILE.read_text().replace("file://", "")
    last = [argument for name, argument in found if name == "USER"][-1]
    assert int(last.partition(":")[0]) > 0
    assert [name for name, _ in found[-4:]] == ["USER", "RUN", "ENTRYPOINT", "CMD"]


def test_the_steps_of_the_dockerfile_run_on_a_read_only_root(
    bare: Path, folder: Path, models: Path, tmp_path: Path
) -> None:
    """Each COPY and RUN, in a private /opt; then, as the user of the image, what ``docker run --read-only`` starts."""
    mounts = ("unshare", "-m", "sh", "-c", "mount -t tmpfs none /opt && setpriv --reuid=10001 --clear-groups true")
    if sys.platform != "linux" or subprocess.run(mounts, capture_output=True, check=False).returncode:
        pytest.skip("needs root, unshare and setpriv")
    context, opt = tmp_path / "context", tmp_path / "opt"
    opt.mkdir()
    # the dependencies of the wheel are there already: no package is fetched
    own = shutil.ignore_patterns("cnn_infer*", "cnn-infer")
    shutil.copytree(bare, opt / "edge", symlinks=True, ignore=own)
    context.mkdir()
    shutil.copy(next(bare.parent.glob("cnn_infer-*.whl")), context)
    shutil.copy(models / "rgb.onnx", context / "model.onnx")
    shutil.copytree(folder, opt / "pictures")  # a volume
    script = [f"mount --bind {shlex.quote(str(opt))} /opt", f"cd {shlex.quote(str(context))}"]
    user = ""
    for name, argument in steps():
        if name == "COPY" and "--from" not in argument:
            source, target = argument.split()
            script.append(f"mkdir -p {Path(target) if target.endswith('/') else Path(target).parent}")
            script.append(f"cp {source} {target}")
        elif name == "ENV":
            script.append(f"export {argument}")
        elif name == "USER":
            number, group = argument.split(":")
            user = f"chroot /mnt setpriv --reuid={number} --regid={group} --clear-groups --no-new-privs "
            script.append(READ_ONLY)
        elif name == "RUN":
            script.append(user + words(argument) if user else f"sh -e -c {shlex.quote(words(argument))}")
        elif name == "ENTRYPOINT":
            entry = user + words(argument)
        else:
            assert name in ("FROM", "COPY", "CMD")
    script.append(f"{entry} {words(steps()[-1][1])}")
    script.append(f"if {user}touch /opt/written /written 2> errors; then exit 9; fi; cat errors >&2")
    script.append(f"{entry} /opt/pictures --format csv")
    (context / "bin").mkdir()
    (context / "bin" / "python").write_text(f'#!/bin/sh\nexec {Path(sys.executable).resolve()} "$@"\n')
    (context / "bin" / "python").chmod(0o755)
    # no other cnn-infer than that of the image is found
    path = f"{context / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PATH": path}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-e", "-c", "\n".join(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("verified: 4 golden pictures agree") == 2
    assert done.stderr.count("Read-only file system") == 2
    assert [row.split(",")[1] for row in done.stdout.splitlines()[-2:]] == ["blue", "red"]


@pytest.fixture
def without_runtime(bare: Path) -> Iterator[Path]:
    """The environment while ONNX Runtime is not installed."""
    (packages,) = bare.glob("lib/python*/site-packages")
    away = bare / "away"
    away.mkdir()
    moved = [path.rename(away / path.name) for path in packages.glob("onnxruntime*")]
    yield bare
    for path in moved:
        path.rename(packages / path.name)
    away.rmdir()


def test_the_doctor_works_without_onnx_runtime(without_runtime: Path, models: Path, tmp_path: Path) -> None:
    command = [without_runtime / "bin" / "cnn-infer", "--doctor", "--format", "jsonl", "--model", models / "rgb.onnx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "cnn-infer: --doctor found errors: onnxruntime\n"
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert found["onnxruntime"]["found"] == "not installed"
    assert found["onnxruntime"]["advice"].startswith("pip install 'cnn-infer[cpu]'")
    assert found["builds"]["found"] == "none"
    assert found["model"]["status"] == found["numpy"]["status"] == "ok"


def test_the_doctor_finds_no_error_after_the_installation(bare: Path, tmp_path: Path) -> None:
    found = json.loads(run(bare / "bin" / "cnn-infer", "--doctor", "--format", "jsonl", cwd=tmp_path))
    assert found["usable"] is True
    missing = {finding["name"] for finding in found["findings"] if finding["found"] == "not installed"}
    assert {"jinja2", "pillow-heif", "ray"} <= missing
