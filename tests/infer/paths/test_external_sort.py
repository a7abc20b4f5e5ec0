"""External sorting: the order of sorted(), and the error for a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cnn_infer import find_pictures
from cnn_infer.paths import external_sort
from hypothesis import given, settings, strategies as st

NAMES = st.lists(st.binary(max_size=6).map(lambda name: name.replace(b"/", b"")), max_size=60)


@settings(max_examples=60, deadline=None)
@given(names=NAMES, run=st.integers(1, 70), block=st.integers(1, 30))
def test_the_order_equals_sorted(names: list[bytes], run: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(external_sort, "RUN", run)
        patch.setattr(external_sort, "_BLOCK", block)
        assert list(external_sort.in_sorted_order(iter(names), b"/")) == sorted(names)


def test_a_large_folder_is_walked_in_the_same_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        (tmp_path / f"{number}").mkdir()
        for name in (f"{number}.jpg", f"{number}.-.jpg", f"{number}/{number}.png", f"{number}/é.png"):
            (tmp_path / name).touch()
    wanted = list(find_pictures([tmp_path]))
    assert len(wanted) == 160
    monkeypatch.setattr(external_sort, "RUN", 3)
    assert list(find_pictures([tmp_path])) == wanted


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.jpg").touch()
    code = (
        "import resource, signal; from cnn_infer import InputError, find_pictures\n"
        "from cnn_infer.paths import external_sort, scratch\n"
        "external_sort.RUN = 4; scratch.MEMORY = 50\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))\n"
        "try: list(find_pictures(['.']))\n"
        "except InputError as error: print(error)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True)
    assert f"a temporary file cannot be written in {tmp_path}: File too large (free space, " in printed
