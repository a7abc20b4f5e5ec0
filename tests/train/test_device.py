"""Which device and number format are chosen; nothing that was asked for is replaced silently."""

from pathlib import Path

import pytest
import torch
from cnn_infer.system import machine
from cnn_train import ConfigError, train
from cnn_train.device import pick_device, pick_precision

CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is available")
def test_cuda_that_is_not_available_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match=r"--device cuda is not available: .+; pass --device cpu") as caught:
        pick_device("cuda")
    assert "\n" not in str(caught.value)
    built = torch.version.cuda is not None
    assert ("no usable NVIDIA driver" in str(caught.value)) == built


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="Metal is available")
def test_mps_that_is_not_available_is_refused() -> None:
    with pytest.raises(ConfigError, match="--device mps is not available"):
        pick_device("mps")


def test_auto_chooses_an_available_device_and_says_why() -> None:
    device, why = pick_device("auto")
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert device.type == expected
    assert why


def test_the_cpu_can_always_be_requested() -> None:
    assert pick_device("cpu") == (CPU, "as requested")


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_fp16_is_refused_where_it_cannot_train(device: str) -> None:
    with pytest.raises(ConfigError, match=f"--precision fp16 needs --device cuda; on {device}"):
        pick_precision("fp16", torch.device(device))


def test_a_requested_precision_is_used() -> None:
    assert pick_precision("fp32", CPU) == ("fp32", torch.float32)
    assert pick_precision("bf16", CPU) == ("bf16", torch.bfloat16)
    assert pick_precision("fp16", torch.device("cuda")) == ("fp16", torch.float16)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo")
def test_auto_follows_this_processors_flags() -> None:
    words = set(Path("/proc/cpuinfo").read_text().split())
    expected = torch.bfloat16 if words & {"avx512_bf16", "amx_bf16", "bf16"} else torch.float32
    assert pick_precision("auto", CPU)[1] == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2", "avx512f"}, torch.float32),
        ({"avx2", "avx512_bf16"}, torch.bfloat16),
        ({"amx_bf16"}, torch.bfloat16),
        ({"asimd", "bf16"}, torch.bfloat16),
        (set(), torch.float32),
    ],
)
def test_auto_follows_other_processors_flags(
    flags: set[str], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset(flags))
    assert pick_precision("auto", CPU)[1] == expected


@pytest.mark.parametrize("resume", [False, True])
def test_a_training_picks_its_device_once(run: Path, monkeypatch: pytest.MonkeyPatch, resume: bool) -> None:
    picked: list[str] = []

    def pick(name: str) -> tuple[torch.device, str]:
        picked.append(name)
        return pick_device(name)

    monkeypatch.setattr("cnn_train.device.pick_device", pick)
    if resume:
        (run / "report.json").unlink()
        train(out=run, resume=True)
    else:
        train("digits", model="nano", epochs=1, out=run, overwrite=True)
    assert len(picked) == 1
