"""The walk-through runs from start to end, and the committed notebook is paired, executed in order, and small."""

import os
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parents[2] / "notebooks"
SOURCE = FOLDER / "walkthrough.py"
NOTEBOOK = FOLDER / "walkthrough.ipynb"

MOST_BYTES = 2_000_000
SHORTER = {
    'DATA = "fashion-mnist"': 'DATA = "digits"',
    "    overwrite=True,\n    on_epoch=": "    overwrite=True,\n    epochs=16,\n    on_epoch=",
    "search_seconds=20": "search_seconds=2",
}
"""Code of the notebook that the test replaces, to save time."""

NUMBER = re.compile(r"(?<![\w.])\d[\d.,]*")
LOCAL = re.compile(r"/(?:home|root|Users|tmp|work|mnt|opt|var)/|[A-Z]:\\\\")


@pytest.fixture(scope="module")
def committed() -> NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    """The walk-through on the digits, with a shorter training and int8 search, in an empty folder."""
    folder = tmp_path_factory.mktemp("walkthrough")
    notebook = jupytext.read(SOURCE)
    [parameters] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert parameters.source in SHORTER
    for original, shorter in SHORTER.items():
        [cell] = [cell for cell in notebook.cells if cell.cell_type == "code" and original in cell.source]
        cell.source = cell.source.replace(original, shorter)
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    # an empty IPython profile, and one thread, because the test machine may be busy
    client.execute(env={**os.environ, "IPYTHONDIR": str(folder / "ipython"), "OMP_NUM_THREADS": "1"})
    return notebook


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(notebook: NotebookNode) -> str:
    """All text output of the cells."""
    parts = []
    for output in (output for cell in code(notebook) for output in cell.outputs):
        data = output.get("data", {})
        parts.append(output.get("text", "") + data.get("text/markdown", data.get("text/plain", "")))
    return "\n".join(parts)


def kinds(cell: NotebookNode) -> list[str]:
    """The kinds of a cell's outputs: pictures, texts, streams. A stream in several pieces counts as one."""
    found: list[str] = []
    for output in cell.outputs:
        data = output.get("data", {})
        kind = next((kind for kind in ("image/png", "text/markdown") if kind in data), output.output_type)
        if kind != "stream" or found[-1:] != ["stream"]:
            found.append(kind)
    return found


def test_its_text_reports_the_results(executed: NotebookNode) -> None:
    text = shown(executed)
    assert "The set is **digits**" in text
    [accuracy] = re.findall(r"\*\*Accuracy: ([\d.]+)%\.\*\*", text)
    assert float(accuracy) > 95
    assert "Parity **passed**" in text
    [by_hand] = re.findall(r"Largest difference on 100 pictures: ([\d.e-]+)\.", text)
    assert float(by_hand) <= 1e-4
    assert re.search(r"int8 \*\*(ships|does not ship)\*\*, because .+\.", text)
    assert re.search(r"calls; blocks vary by [\d.]+%: (quiet|NOISY)", text)
    [found, expected] = re.findall(r"Accuracy ([\d.]+)%; the export reported ([\d.]+)%", text)[0]
    assert found == expected
    assert "1 of them unreadable" in text
    assert "broken.png" in text
    assert text.count("path,label,index,probability") == 1


def test_text_cells_contain_no_numbers(committed: NotebookNode) -> None:
    words = [" ".join(cell.source.split()) for cell in committed.cells if cell.cell_type == "markdown"]
    assert len(words) > 30
    licence = "[CC BY 2.0](https://creativecommons.org/licenses/by/2.0/)"
    assert [NUMBER.findall(text.replace(licence, "")) for text in words] == [[] for _ in words]


def test_each_code_cell_has_an_explanation(committed: NotebookNode) -> None:
    """A code cell follows its explanation, or one other code cell."""
    first, *_ = committed.cells
    assert first.cell_type == "markdown"
    run = 0
    for cell in committed.cells:
        run = run + 1 if cell.cell_type == "code" else 0
        assert run <= 2, cell.source


def test_both_files_are_the_same_notebook(committed: NotebookNode) -> None:
    paired = jupytext.read(SOURCE)
    assert [(cell.cell_type, cell.source) for cell in committed.cells] == [
        (cell.cell_type, cell.source) for cell in paired.cells
    ]
    assert committed.metadata["jupytext"]["formats"] == "ipynb,py:percent"


def test_every_cell_runs_in_order(executed: NotebookNode) -> None:
    assert [cell.execution_count for cell in code(executed)] == list(range(1, len(code(executed)) + 1))
    assert not any(output.output_type == "error" for cell in code(executed) for output in cell.outputs)


def test_it_is_committed_with_the_output_of_a_whole_run(committed: NotebookNode, executed: NotebookNode) -> None:
    text = shown(committed)
    assert "The set is **fashion-mnist**" in text
    assert "Traceback" not in text
    assert NOTEBOOK.stat().st_size < MOST_BYTES
    assert [cell.execution_count for cell in code(committed)] == list(range(1, len(code(committed)) + 1))
    assert [kinds(cell) for cell in code(committed)] == [kinds(cell) for cell in code(executed)]
    assert sum(kind == "image/png" for cell in code(committed) for kind in kinds(cell)) >= 20


def test_it_contains_no_paths_of_the_machine(committed: NotebookNode) -> None:
    everything = shown(committed) + "".join(cell.source for cell in committed.cells)
    assert not LOCAL.findall(everything)
    assert committed.metadata["kernelspec"] == {"display_name": "Python 3", "language": "python", "name": "python3"}
