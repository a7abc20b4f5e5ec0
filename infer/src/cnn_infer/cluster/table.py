"""The rows of a part as a file: JSON lines, CSV with a header, or Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from cnn_infer.evaluation import Row
from cnn_infer.optional_outputs import STRANGENESS
from cnn_infer.rows import fields, formatter

if TYPE_CHECKING:
    import pyarrow

PARQUET = "parquet"


def file_of(rows: Iterable[Row], form: str, classes: Sequence[str], *, strangers: bool) -> bytes:
    """Return the file of a part.

    Args:
        rows: The rows of the part.
        form: ``parquet``, ``jsonl`` or ``csv``. Every file of CSV has the header, as readers of folders expect.
        classes: The names of the model's classes.
        strangers: Whether there is a column ``strangeness``.
    """
    if form == PARQUET:
        return _parquet(rows, strangers=strangers)
    header, text = formatter(form, classes, strangers=strangers)
    return (header + "".join(map(text, rows))).encode()


def schema(*, strangers: bool) -> pyarrow.Schema:
    """Return the columns of Parquet files. Names and values are those of JSON lines."""
    import pyarrow as pa

    answer = pa.struct([("label", pa.string()), ("probability", pa.float64())])
    columns = [
        pa.field("path", pa.string(), nullable=False),
        ("label", pa.string()),
        ("index", pa.int32()),
        ("probability", pa.float64()),
        ("top", pa.list_(answer)),
        ("error", pa.string()),
    ]
    return pa.schema([*columns, (STRANGENESS, pa.float64())] if strangers else columns)


def _parquet(rows: Iterable[Row], *, strangers: bool) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.Table.from_pylist([fields(row, strangers=strangers) for row in rows], schema=schema(strangers=strangers))
    stream = BytesIO()
    parquet.write_table(table, stream)
    return stream.getvalue()
