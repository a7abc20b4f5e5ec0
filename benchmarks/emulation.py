"""Other processors, emulated by QEMU (user mode): the Python interpreters and packages that run on them.

    python benchmarks/emulation.py      build the environment for 64-bit Arm: a minute

x86 processors run the Python and the packages of this environment. 64-bit Arm processors run the Python of this Debian
or Ubuntu release for arm64, unpacked into a folder, with the wheels for aarch64. Neither needs root or changes the
system: apt works in a folder of its own. Only QEMU itself must be installed.

/proc/cpuinfo is that of the host inside the emulation, so ``cnn_infer.system.machine`` names the instruction set of
the host there. ONNX Runtime does not read it to choose its int8 kernels: it asks the processor (CPUID) on x86 and the
kernel's capability bits (AT_HWCAP) on Arm, and QEMU emulates both. The int8 kernels multiply with these instructions
(as QEMU logs them with ``-d in_asm``): ``vpmaddubsw`` on AVX2, ``pmaddwd`` on SSE4.2, ``umull`` and ``smlal`` on
Cortex-A72, ``udot`` on Cortex-A76, ``ummla`` on ``arm-max``.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from platformdirs import user_cache_path

ROOT = Path(__file__).parents[1]
CACHE = user_cache_path("edgecnn") / "processors"
"""Where the environments are built unless another folder is named."""

ARM_ONNXRUNTIME = "1.22.1"
"""Version of ONNX Runtime on Arm. 1.32 crashes in QEMU 7.2, which is that of Debian 12."""

SAME_PACKAGES = ("numpy", "pillow", "simplejpeg", "click", "rich")
"""Packages that have the same version on Arm as in this environment."""

DEBIAN_PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6")


class EmulationError(Exception):
    """A processor cannot be emulated on this machine; the text says why and what to do."""


@dataclass(frozen=True)
class Processor:
    """An emulated processor.

    Attributes:
        architecture: ``x86_64`` or ``aarch64``.
        cpu: QEMU's name of the processor.
        title: What it is, for people.
    """

    architecture: str
    cpu: str
    title: str


PROCESSORS = {
    "avx2": Processor("x86_64", "max", "x86 with AVX2, without VNNI"),
    "sse4.2": Processor("x86_64", "Nehalem", "x86 with SSE4.2"),
    "cortex-a72": Processor("aarch64", "cortex-a72", "Cortex-A72, without dot product"),
    "cortex-a76": Processor("aarch64", "cortex-a76", "Cortex-A76, with dot product"),
    "arm-max": Processor("aarch64", "max", "Arm with dot product, i8mm and SVE"),
}


def emulator(architecture: str) -> str:
    """The path of QEMU for an architecture."""
    for name in (f"qemu-{architecture}-static", f"qemu-{architecture}"):
        path = shutil.which(name)
        if path:
            return path
    raise EmulationError(
        f"qemu-{architecture}-static is not installed; on Debian and Ubuntu: apt install qemu-user-static"
    )


def emulator_version(architecture: str) -> str:
    """The version of QEMU, as it prints it."""
    return _output([emulator(architecture), "--version"]).splitlines()[0].removeprefix(f"qemu-{architecture} version ")


def prepare(architecture: str, cache: Path) -> None:
    """Build the environment of an architecture if it is missing: for x86 there is nothing to build.

    Args:
        architecture: ``x86_64`` or ``aarch64``.
        cache: Folder of the environments.

    Raises:
        EmulationError: the architecture cannot be emulated on this machine.
    """
    emulator(architecture)
    if architecture == "x86_64":
        if platform.machine() != "x86_64":
            raise EmulationError("x86 processors are emulated on x86 machines only")
    elif not is_built(cache):
        _build_arm(_arm_folder(cache))


def is_built(cache: Path) -> bool:
    """Whether the environment for Arm is in the folder."""
    return _arm_folder(cache).exists()


def command(processor: Processor, cache: Path, *arguments: str | Path) -> list[str]:
    """The command line that runs Python on an emulated processor.

    Args:
        processor: The processor; :func:`prepare` was called for its architecture.
        cache: Folder of the environments.
        arguments: Arguments of Python.
    """
    start = [emulator(processor.architecture), "-cpu", processor.cpu]
    if processor.architecture == "x86_64":
        return [*start, sys.executable, *map(str, arguments)]
    root = _arm_folder(cache) / "root"
    return [*start, "-L", str(root), str(_arm_python(root)), *map(str, arguments)]


def environment(processor: Processor, cache: Path) -> dict[str, str]:
    """The environment variables of the process that runs on an emulated processor."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    kept["PYTHONDONTWRITEBYTECODE"] = "1"
    folders = [ROOT / "infer" / "src"]
    if processor.architecture == "aarch64":
        folders.append(_arm_folder(cache) / "site")
    else:  # OpenBLAS takes an emulated Nehalem for another core and runs AVX instructions; int8 does not use OpenBLAS
        kept["OPENBLAS_CORETYPE"] = "Nehalem"
    kept["PYTHONPATH"] = os.pathsep.join(map(str, folders))
    return kept


def _arm_folder(cache: Path) -> Path:
    return cache / f"aarch64-onnxruntime-{ARM_ONNXRUNTIME}"


def _arm_python(root: Path) -> Path:
    """The interpreter in an unpacked root folder."""
    return next(path for path in sorted((root / "usr" / "bin").glob("python3.*")) if path.name[8:].isdigit())


def _build_arm(folder: Path) -> None:
    """Download and unpack Debian's arm64 Python, and install the wheels. The folder is complete or absent."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise EmulationError(
            "64-bit Arm is emulated with the arm64 packages of Debian or Ubuntu, and apt-get is missing"
        )
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    print(f"building the environment for 64-bit Arm in {folder} (some minutes, 300 MB)", file=sys.stderr, flush=True)
    root = partial / "root"
    for package in _download_packages(partial / "apt"):
        _output(["dpkg-deb", "-x", str(package), str(root)])
    if not (root / "lib").exists():  # the packages of newer releases expect this link
        (root / "lib").symlink_to("usr/lib")
    version = _arm_python(root).name.removeprefix("python")
    platforms = [f"--platform=manylinux{name}_aarch64" for name in ("2014", "_2_17", "_2_27", "_2_28")]
    same = [f"{name}=={metadata.version(name)}" for name in SAME_PACKAGES]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-compile"]
    target = ["--only-binary=:all:", *platforms, f"--python-version={version}", f"--target={partial / 'site'}"]
    _output([*pip, *target, f"onnxruntime=={ARM_ONNXRUNTIME}", *same])
    shutil.rmtree(partial / "apt")
    partial.rename(folder)


def _download_packages(folder: Path) -> list[Path]:
    """Download the arm64 packages and all they depend on, with apt's state in ``folder``."""
    for name in ("state/lists/partial", "cache", "archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()  # no package counts as installed
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "true",
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Cache::archives": folder / "archives",
    }
    apt = ["apt-get", "--quiet=2", *(f"--option={key}={value}" for key, value in settings.items())]
    subprocess.run([*apt, "update"], capture_output=True, check=False)  # it fails if any source lacks arm64
    try:
        _output([*apt, "install", "--yes", "--download-only", "--no-install-recommends", *DEBIAN_PACKAGES])
    except EmulationError as error:
        raise EmulationError(f"{error} (do the sources of apt have arm64?)") from error
    return sorted((folder / "archives").glob("*.deb"))


def _output(arguments: list[str]) -> str:
    """What a command prints.

    Raises:
        EmulationError: it failed.
    """
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise EmulationError(f"{' '.join(arguments[:1])} failed: {last}")
    return done.stdout


def main() -> int:
    """Build what can be built in advance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the environments (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="build nothing; exit with 1 if it is not built")
    options = parser.parse_args()
    if options.check:
        return 0 if is_built(options.cache) else 1
    try:
        prepare("aarch64", options.cache)
    except EmulationError as error:
        print(f"emulation.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
