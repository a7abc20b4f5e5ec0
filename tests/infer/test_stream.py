"""Threads that share a stream of items."""

import threading
import time
from collections.abc import Iterator

import pytest
from cnn_infer.stream import in_order
from hypothesis import given, settings, strategies as st

TIMEOUT = 60


@settings(deadline=None)
@given(
    count=st.integers(0, 200),
    chunk=st.integers(1, 40),
    parts=st.integers(1, 50),
    workers=st.integers(1, 5),
)
def test_every_item_has_its_result_in_its_place(count: int, chunk: int, parts: int, workers: int) -> None:
    sizes = []

    def squares(items: list[int]) -> list[int]:
        sizes.append(len(items))
        return [item * item for item in items]

    found = list(in_order(squares, range(count), chunk=chunk, workers=workers, parts=parts))
    assert found == [item * item for item in range(count)]
    assert max(sizes, default=0) <= chunk
    assert sum(sizes) == count


@pytest.mark.parametrize("workers", [2, 5])
def test_items_for_less_than_one_chunk_occupy_all_threads(workers: int) -> None:
    together = threading.Barrier(workers)

    def meet(items: list[int]) -> list[int]:
        together.wait(TIMEOUT)  # raises unless all threads arrive
        return items

    count = 4 * workers
    assert list(in_order(meet, range(count), chunk=32, workers=workers, parts=8)) == list(range(count))


def test_what_no_thread_has_begun_at_the_end_is_cut_into_small_chunks() -> None:
    ended = threading.Event()
    sizes = []

    def items() -> Iterator[int]:
        yield from range(18)  # chunks of 1, 1, 8 and 8 items
        ended.set()

    def slow(chunk: list[int]) -> list[int]:
        sizes.append(len(chunk))
        if len(chunk) == 8:
            assert ended.wait(TIMEOUT)
            time.sleep(0.5)  # the main thread cuts the last chunk meanwhile
        return chunk

    assert list(in_order(slow, items(), chunk=8, workers=1, parts=8)) == list(range(18))
    assert sizes == [1, 1, 8, *[1] * 8]
