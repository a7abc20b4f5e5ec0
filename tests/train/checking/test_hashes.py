"""Close hashes: every pair up to the stated distance, each once."""

from __future__ import annotations

import numpy as np
import pytest
from cnn_train.checking import hashes
from cnn_train.checking.hashes import DISTANCE, STEPS, close_pairs


@pytest.mark.parametrize("block", [1 << 18, 64])
def test_all_pairs_up_to_the_distance_are_found_once(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "BLOCK", block)
    random = np.random.default_rng(0)
    base = random.integers(0, 2**64, 40, np.uint64)
    stored = np.repeat(base, 20)
    for row in range(len(stored)):  # 0 to 10 bits are flipped
        for bit in random.choice(64, row % 11, replace=False):
            stored[row] ^= np.uint64(1) << np.uint64(bit)
    queries = random.permutation(stored)
    for asked in (stored, queries):
        distances = np.bitwise_count(asked[:, None] ^ stored[None])
        wanted = {(i, j) for i, j in np.argwhere(distances <= DISTANCE).tolist() if i > j}
        assert len({int(distances[pair]) for pair in wanted}) == DISTANCE + 1
        steps: list[int] = []
        found = [
            pair
            for i, j in close_pairs(asked, stored, steps.append)
            for pair in zip(i.tolist(), j.tolist(), strict=True)
        ]
        assert len(found) == len(wanted)
        assert set(found) == wanted
        assert sum(steps) == STEPS


def test_no_hashes_have_no_pairs() -> None:
    empty = np.zeros(0, np.uint64)
    assert list(close_pairs(empty, empty, lambda _: None)) == []
