"""What is kept of single pictures: bounded, the worst ones, and the same after a restart."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cnn_infer import InputError
from cnn_infer.highlights import MOST_MISTAKES, MOST_UNREADABLE, MOST_UNSURE, Highlights
from cnn_infer.prediction import Prediction


def answer(label: str, probability: float, *, known: bool = True) -> Prediction:
    return Prediction(label if known else "unknown", 0 if known else None, probability, ((label, probability),))


@pytest.fixture(scope="module")
def run() -> tuple[Highlights, np.ndarray, np.ndarray]:
    """5,000 answers, their top probabilities, and whether they are right; ties, exact ones and zeros among them."""
    random = np.random.default_rng(0)
    probabilities = np.round(random.uniform(0.3, 1, 5000), 3)
    probabilities[:3] = 0, 1, 1
    right = random.random(5000) < probabilities
    found = Highlights()
    for number, (probability, good) in enumerate(zip(probabilities.tolist(), right, strict=True)):
        if number == 2500:
            found = Highlights.restored(json.loads(json.dumps(found.counted())))
        found.add(f"{number}.png", answer("a" if good else "b", probability), "a")
        found.add_unreadable(f"{number}.txt", "not a picture")
    return found, probabilities, right


def test_the_worst_mistakes_and_the_least_sure_are_kept(run: tuple[Highlights, np.ndarray, np.ndarray]) -> None:
    found, probabilities, right = run
    wrong = np.flatnonzero(~right)
    worst = wrong[np.argsort(-probabilities[wrong], kind="stable")][:MOST_MISTAKES]
    assert [one.path for one in found.mistakes] == [f"{number}.png" for number in worst]
    unsure = np.argsort(probabilities, kind="stable")[:MOST_UNSURE]
    assert [one.path for one in found.unsure] == [f"{number}.png" for number in unsure]
    assert [path for path, _ in found.unreadable] == [f"{number}.txt" for number in range(MOST_UNREADABLE)]


def test_selections_are_those_of_the_sorted_answers(run: tuple[Highlights, np.ndarray, np.ndarray]) -> None:
    found, probabilities, right = run
    selections = list(found.selections())
    assert (selections[-1].answered, selections[-1].wrong) == (5000, int((~right).sum()))
    for one in selections:
        chosen = probabilities >= one.threshold - 1e-9
        assert abs(int(chosen.sum()) - one.answered) <= 0.005 * 5000
        assert abs(int((chosen & ~right).sum()) - one.wrong) <= 0.005 * 5000


def test_an_answer_below_the_threshold_is_no_mistake_but_counts_for_the_coverage() -> None:
    found = Highlights()
    found.add("a.png", answer("b", 0.4, known=False), "a")
    found.add("b.png", answer("b", 0.9), None)
    assert (found.mistakes, [one.answered for one in found.selections()]) == ([], [1])


@pytest.mark.parametrize("damage", [{"seen": None}, {"worst": [1]}, {"bins": [[10**6, 1, 1]]}, {"unsure": [[1, 2]]}])
def test_damaged_counts_are_refused(damage: dict[str, object]) -> None:
    with pytest.raises(InputError, match="damaged"):
        Highlights.restored({**Highlights().counted(), **damage})


def test_a_probability_that_is_not_a_number_counts_as_0() -> None:
    found = Highlights()
    for number, probability in enumerate([0.5] * MOST_UNSURE + [float("nan")]):
        found.add(f"{number}.png", answer("b", probability), "a")
    assert (found.unsure[0].path, found.unsure[0].probability) == (f"{MOST_UNSURE}.png", 0)
    assert found.mistakes[-1].path == f"{MOST_UNSURE}.png"
    (_, last) = found.selections()
    assert (last.answered, last.wrong) == (MOST_UNSURE + 1, MOST_UNSURE + 1)
