"""The command where the system denies it threads, system calls or folders.

Each test starts a real process under the real limit. A machine that does not permit the limit skips the test.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]

COMMAND = (sys.executable, "-m", "cnn_infer")
Limit = Callable[[int], tuple[str, ...]]

NUMBERS = {  # of system calls
    "x86_64": {"sched_getaffinity": 204, "fsync": 74},
    "aarch64": {"sched_getaffinity": 123, "fsync": 82},
}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def permitted(*command: str) -> bool:
    return bool(shutil.which(command[0])) and not subprocess.run(command, capture_output=True, check=False).returncode


@pytest.fixture
def at_most() -> Limit:
    """Returns the start of a command line that limits the command to a number of threads, with the first."""

    def prefix(threads: int) -> tuple[str, ...]:
        # the limit does not apply to root, so another user runs the command; it may read all files, as root does
        user = ("setpriv", f"--reuid={20_000 + os.getpid() % 30_000}", "--clear-groups")
        rights = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
        start = (*user, *rights, "prlimit", f"--nproc={threads}")
        if not permitted(*start, sys.executable, "-c", ""):
            pytest.skip("needs root, setpriv and prlimit")
        return start

    return prefix


@pytest.fixture
def without() -> Callable[[str, int], Callable[[], None]]:
    """Returns a function that denies a system call, with an error number, in the process that calls it (seccomp)."""

    def deny(name: str, code: int) -> Callable[[], None]:
        numbers = NUMBERS.get(platform.machine())
        if numbers is None:
            pytest.skip("needs an x86-64 or ARM64 processor")
        # load the number; if it is this call, return the error; else allow it
        steps = [(0x20, 0, 0, 0), (0x15, 0, 1, numbers[name]), (0x06, 0, 0, 0x50000 | code), (0x06, 0, 0, 0x7FFF0000)]
        program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
        filters = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program))
        library = ctypes.CDLL(None)

        def install() -> None:
            assert program
            library.prctl(38, 1, 0, 0, 0)  # no new privileges
            if library.prctl(22, 2, ctypes.c_char_p(filters), 0, 0):
                raise OSError("no seccomp")

        try:
            subprocess.run([sys.executable, "-c", ""], preexec_fn=install, check=True)
        except subprocess.SubprocessError:
            pytest.skip("needs seccomp")
        return install

    return deny


@pytest.fixture
def mounted() -> Callable[[str], tuple[str, ...]]:
    """Returns the start of a command line that runs a script of mounts first, which other processes do not see."""

    def prefix(script: str) -> tuple[str, ...]:
        start = ("unshare", "-m", "sh", "-e", "-c", f'{script}\nexec "$@"', "sh")
        if not permitted(*start, "true"):
            pytest.skip("needs unshare and the right to mount")
        return start

    return prefix


@pytest.fixture
def model(models: Path) -> tuple[str, ...]:
    return ("--model", str(models / "rgb.onnx"))


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    """300 pictures of three colours."""
    for number in range(300):
        path = tmp_path / "in" / f"{number:03}.png"
        if number < 3:
            picture(path, ("red", "lime", "blue")[number])
        else:
            os.link(path.with_name(f"{number % 3:03}.png"), path)
    return tmp_path / "in"


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Runs a command line in ``tmp_path``; checks the exit code, and that no traceback is printed."""
    environment.pop("OPENBLAS_NUM_THREADS", None)

    def start(*command: str, code: int = 0, **keywords: object) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
            **keywords,  # type: ignore[call-overload]
        )
        for sign in (b"Traceback", b"Exception ignored", b"OpenBLAS"):
            assert sign not in done.stderr, done.stderr.decode()
        assert done.returncode == code, done.stderr.decode()
        return done

    return start


def warnings(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    return [line for line in done.stderr.decode().splitlines() if line.startswith("warning: ")]


@pytest.mark.parametrize("options", [("--threads", "4", "--batch-size", "8"), ("--threads", "auto")], ids=" ".join)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_rows_are_complete_if_threads_cannot_be_started(
    at_most: Limit, folder: Path, model: tuple[str, ...], run: Run, threads: int, options: tuple[str, ...]
) -> None:
    wanted = run(*COMMAND, "in", *model, "--threads", "1")
    done = run(*at_most(threads), *COMMAND, "in", *model, *options)
    assert done.stdout == wanted.stdout
    if options[1] == "4" or threads == 1:
        [line] = warnings(done)
        assert line.startswith("warning: the system does not start all worker threads (raise its limit: ulimit -u")


@pytest.mark.parametrize("threads", [1, 2])
def test_the_report_has_the_threads_that_worked(
    at_most: Limit, folder: Path, model: tuple[str, ...], run: Run, tmp_path: Path, threads: int
) -> None:
    """The main thread does the work of those that the system does not start."""
    options = ("--threads", "4", "--batch-size", "2", "--report", "report.json", "--output", "rows")
    done = run(*at_most(threads), *COMMAND, "in", *model, *options)
    assert warnings(done)
    worked = json.loads((tmp_path / "report.json").read_text())["threads"]
    assert worked == threads
    assert f"on {worked} thread{'s' if worked > 1 else ''};" in done.stderr.decode()


def test_the_library_prints_nothing_if_threads_cannot_be_started(
    at_most: Limit, folder: Path, models: Path, run: Run, environment: dict[str, str]
) -> None:
    environment["OPENBLAS_NUM_THREADS"] = "1"  # the program's own choice
    code = (
        "import pathlib, sys; from cnn_infer import Classifier, ModelError\n"
        "paths = sorted(pathlib.Path('in').iterdir())\n"
        "found = list(Classifier(sys.argv[1]).predict_many(paths, workers=3))\n"
        "print(*[prediction.index for prediction in found])\n"
        "try: Classifier(sys.argv[1], threads=4)\n"
        "except ModelError as error: print(error)"
    )
    done = run(*at_most(1), sys.executable, "-c", code, str(models / "rgb.onnx"))
    rows, error = done.stdout.decode().splitlines()
    assert rows.split() == ["0", "1", "2"] * 100
    assert error == f"the system does not start 4 threads to run {models / 'rgb.onnx'}: choose fewer"
    assert not done.stderr


def test_an_error_of_a_chunk_is_raised_in_its_place_if_threads_cannot_be_started(at_most: Limit, run: Run) -> None:
    code = (
        "from cnn_infer.stream import in_order\n"
        "def inverse(items): return [1 / item for item in items]\n"
        "try:\n"
        "    for result in in_order(inverse, [1, 2, 4, 0, 5], chunk=1, workers=3): print(result)\n"
        "except ZeroDivisionError as error: print(error)"
    )
    for threads in (1, 2):
        printed = run(*at_most(threads), sys.executable, "-c", code).stdout
        assert printed.decode().split("\n") == ["1.0", "0.5", "0.25", "division by zero", ""]


def test_the_library_leaves_openblas_alone(run: Run) -> None:
    code = "import os, cnn_infer.classifier; print(os.environ.get('OPENBLAS_NUM_THREADS'))"
    assert run(sys.executable, "-c", code).stdout == b"None\n"


@pytest.mark.parametrize("module", ["cnn_train", "cnn_export"])
def test_training_and_export_use_one_thread_if_others_cannot_be_started(at_most: Limit, run: Run, module: str) -> None:
    if find_spec(module) is None or find_spec("torch") is None:
        pytest.skip(f"needs {module}")
    done = run(*at_most(1), sys.executable, "-m", module, "absent", code=2)  # after NumPy and PyTorch are imported
    first, *_, last = done.stderr.decode().splitlines()
    assert first == "warning: the system does not start a thread for each processor: one is used"
    assert last.startswith(f"{module.replace('_', '-')}: ")
    assert "absent" in last


def test_library_threads_are_limited_only_if_necessary(at_most: Limit, run: Run) -> None:
    code = (
        "import os; from cnn_infer.system.threads import VARIABLES, limit_library_threads; limit_library_threads()\n"
        "print([os.environ.get(name) for name in VARIABLES])"
    )
    command = ("env", *(f"--unset={name}_NUM_THREADS" for name in ("OPENBLAS", "OMP")), sys.executable, "-c", code)
    assert run(*command).stdout == b"[None, None]\n"
    assert run(*at_most(1), *command).stdout == b"['1', '1']\n"


def test_a_terminal_gets_lines_if_the_thread_of_the_bar_cannot_be_started(
    at_most: Limit, folder: Path, model: tuple[str, ...], tmp_path: Path, environment: dict[str, str]
) -> None:
    start = at_most(1)
    ours, theirs = os.openpty()
    command = [*start, *COMMAND, "in", *model, "--output", "/dev/null"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, stderr=theirs, timeout=60, check=False)
    os.close(theirs)
    printed = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0, printed
    assert "Traceback" not in printed
    assert "300 pictures classified, 0 could not be read" in printed


def test_the_affinity_may_be_denied(
    without: Callable[[str, int], Callable[[], None]], folder: Path, model: tuple[str, ...], run: Run
) -> None:
    deny = without("sched_getaffinity", errno.EPERM)
    wanted = run(*COMMAND, "in", *model)
    assert run(*COMMAND, "in", *model, preexec_fn=deny).stdout == wanted.stdout
    code = "import os; from cnn_infer.system import machine; print(0 < machine.usable_cpus() <= os.cpu_count())"
    assert run(sys.executable, "-c", code, preexec_fn=deny).stdout == b"True\n"


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_files_are_written_where_fsync_is_not_supported(
    without: Callable[[str, int], Callable[[], None]],
    folder: Path,
    tmp_path: Path,
    model: tuple[str, ...],
    run: Run,
    code: int,
) -> None:
    deny = without("fsync", code)
    done = run(*COMMAND, "in", *model, "--output", "rows", "--report", "report.json", preexec_fn=deny)
    assert len((tmp_path / "rows").read_text().splitlines()) == 301
    assert json.loads((tmp_path / "report.json").read_text())["images"] == 300
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "report.json", "rows"]
    reason = os.strerror(code)
    assert warnings(done) == [
        f"warning: the file system does not support fsync ({reason}): files are written, but a power failure may "
        "lose the newest"
    ]


def test_an_error_of_the_disk_at_fsync_is_an_error(
    without: Callable[[str, int], Callable[[], None]], folder: Path, model: tuple[str, ...], run: Run
) -> None:
    deny = without("fsync", errno.EIO)
    done = run(*COMMAND, "in", *model, "--output", "rows", preexec_fn=deny, code=2)
    assert b"\ncnn-infer: Input/output error: " in done.stderr


READ_ONLY = """
for folder in /tmp /var/tmp /usr/tmp "$PWD"; do
    test ! -d "$folder" || { mount --bind "$folder" "$folder"; mount -o remount,bind,ro "$folder"; }
done
cd "$PWD"  # into the mount
export TMPDIR=/absent
"""


def test_small_lists_and_folders_need_no_temporary_folder(
    mounted: Callable[[str], tuple[str, ...]], tmp_path: Path, folder: Path, model: tuple[str, ...], run: Run
) -> None:
    start = mounted(READ_ONLY)
    (tmp_path / "many").mkdir()
    for number in range(6000):
        os.link(folder / "000.png", tmp_path / "many" / f"{number}.png")
    code = "import cnn_infer; print(len(list(cnn_infer.find_pictures(['many']))))"
    assert run(*start, sys.executable, "-c", code).stdout == b"6000\n"
    listed = b"in/000.png\n" * 1000
    done = run(*start, *COMMAND, "-", *model, input=listed)
    assert len(done.stdout.splitlines()) == 1001
    done = run(*start, *COMMAND, "-", *model, input=listed * 100, code=2)  # 1.1 MB
    line = done.stderr.decode().splitlines()[-1]
    assert line.startswith("cnn-infer: the list of files is too long for memory, and a temporary file cannot be ")
    assert "['/absent', '/tmp'" in line
    assert line.endswith("(set TMPDIR to a folder that can be written)")


def test_shared_memory_may_be_read_only(
    mounted: Callable[[str], tuple[str, ...]], folder: Path, model: tuple[str, ...], run: Run
) -> None:
    start = mounted("mount -t tmpfs -o ro none /dev/shm")
    wanted = run(*COMMAND, "in", *model)
    assert run(*start, *COMMAND, "in", *model, "--threads", "3").stdout == wanted.stdout
