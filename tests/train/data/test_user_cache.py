"""Where the cache folder is, by what the environment says."""

import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest
from cnn_train.data import user_cache as module
from cnn_train.data.user_cache import user_cache
from cnn_train.errors import DataError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the places of Linux")


@pytest.mark.parametrize(
    ("xdg", "expected"),
    [
        (None, "home/.cache/edgecnn"),
        ("", "home/.cache/edgecnn"),
        ("relative", "home/.cache/edgecnn"),
        ("./relative", "home/.cache/edgecnn"),
        ("{tmp}/other", "other/edgecnn"),
    ],
)
def test_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xdg: str | None, expected: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if xdg is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", xdg.format(tmp=tmp_path))
    assert user_cache() == tmp_path / expected
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("found", ["relative/edgecnn", "~/.cache/edgecnn"])
def test_a_relative_folder_of_an_older_platformdirs_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(module, "user_cache_path", lambda *_, **__: Path(found))
    assert user_cache() == tmp_path / ".cache" / "edgecnn"


def test_without_a_home_folder_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 987_654)  # a user that the system does not know
    with pytest.raises(DataError, match=r"^no home folder for the cache: set HOME, or name a folder with --cache$"):
        user_cache()


def test_help_does_not_load_it() -> None:
    script = "import sys; sys.argv = ['cnn-train', '--help']; from cnn_train.cli import main\ntry: main()\nexcept "
    script += "SystemExit: print([name for name in ('platformdirs', 'cnn_train.data', 'torch') if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
    assert platformdirs.__name__ in sys.modules
