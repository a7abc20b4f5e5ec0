"""What MkDocs adds to the pages when it builds the site.

The option tables come from the commands themselves and the examples from their files, so they cannot be out of date.
Files from outside ``docs/`` that pages link to become part of the site.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = (
    "SECURITY.md",
    "CHANGELOG.md",
    "benchmarks/results/*.md",
    "benchmarks/results/*.png",
    "examples/*.py",
    "examples/Dockerfile",
)
"""Files of the repository that are part of the site, under the same path."""

OPTIONS = re.compile(r"<!-- options: (\S+) -->")
INCLUDED = re.compile(r"<!-- file: (\S+) -->")
OUTSIDE_LINK = re.compile(r"\]\((?:\.\./)+((?:SECURITY|CHANGELOG|benchmarks|examples)[^)]*)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files from outside ``docs/``."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - by name
    """Fill in option tables and files, and point links that lead out of ``docs/`` at the files of the site."""
    folder = posixpath.dirname(page.file.src_uri)
    markdown = OUTSIDE_LINK.sub(lambda link: f"]({posixpath.relpath(link[1], folder or '.')})", markdown)
    markdown = INCLUDED.sub(lambda found: f"```python\n{(ROOT / found[1]).read_text(encoding='utf-8')}```", markdown)
    return OPTIONS.sub(lambda found: "\n".join(table(found[1])), markdown)


def table(module: str) -> Iterator[str]:
    """A Markdown table of the options of the click command that ``module`` defines."""
    command: click.Command = import_module(module).command
    context = click.Context(command, info_name=command.name, **command.context_settings)
    yield "| option | meaning |\n| --- | --- |"
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None:
            option, text = record[0], record[1].replace("|", "&#124;").replace("<", "&lt;")
            yield f"| `{option}` | {text} |"
