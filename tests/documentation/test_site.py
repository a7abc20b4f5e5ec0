"""The site is built without a warning, loads nothing from other hosts, and its options are those of the commands."""

import re
import subprocess
import sys
from html import unescape
from importlib import import_module
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = {"cnn-train": "cnn_train.cli", "cnn-export": "cnn_export.cli", "cnn-infer": "cnn_infer.command.cli"}
LOADED = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""")
FROM_CSS = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_reader_loads_nothing_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 10
    found = [(page.name, link) for page in pages for link in LOADED.findall(page.read_text(encoding="utf-8"))]
    found += [(style.name, link) for style in site.rglob("*.css") for link in FROM_CSS.findall(style.read_text())]
    assert found == []


def test_pages_and_pictures_from_outside_docs_are_part_of_the_site(site: Path) -> None:
    for name in ("SECURITY.html", "CHANGELOG.html", "benchmarks/results/training_recipe.html"):
        assert (site / name).is_file()
    measured = (site / "measuring.html").read_text(encoding="utf-8")
    assert 'src="benchmarks/results/train.png"' in measured
    assert (site / "benchmarks" / "results" / "train.png").is_file()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_every_option_as_help_has_it(name: str, site: Path) -> None:
    page = (site / "commands" / f"{name}.html").read_text(encoding="utf-8")
    text = " ".join(unescape(re.sub(r"<[^>]+>", "", page)).split())
    command: click.Command = import_module(COMMANDS[name]).command
    context = click.Context(command, info_name=name, **command.context_settings)
    options = [parameter for parameter in command.get_params(context) if isinstance(parameter, click.Option)]
    records = [record for option in options if (record := option.get_help_record(context))]
    assert len(records) > 10
    assert "-h, --help" in [option for option, _ in records]
    missing = [option for option, meaning in records if option not in text or " ".join(meaning.split()) not in text]
    assert missing == []


@pytest.mark.parametrize("name", COMMANDS)
def test_options_in_a_page_exist(name: str) -> None:
    """Also those in the text, which are written by hand."""
    command: click.Command = import_module(COMMANDS[name]).command
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    text = (ROOT / "docs" / "commands" / f"{name}.md").read_text(encoding="utf-8")
    # options of other programs
    text = re.sub(r"^.*(?:torchrun|Then).*$|(?:tensorboard|mlflow ui) --.*$", "", text, flags=re.M)
    others = {
        option
        for other in COMMANDS.values()
        for parameter in import_module(other).command.params
        for option in parameter.opts
    }
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    assert used <= known | others
    of_this = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", "\n".join(re.findall(rf"^{name} .*$", text, re.M))))
    assert of_this <= known
