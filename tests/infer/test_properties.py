"""Properties for any pictures: one answer each, in order, and the same alone, in a batch and with several threads."""

from __future__ import annotations

import numpy as np
from cnn_infer import Classifier, PictureError
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra.numpy import arrays

SIDES = st.integers(1, 40)
PICTURES = st.one_of(
    st.tuples(SIDES, SIDES).flatmap(lambda shape: arrays(np.uint8, shape)),
    st.tuples(SIDES, SIDES, st.just(1)).flatmap(lambda shape: arrays(np.uint8, shape)),
    st.tuples(SIDES, SIDES, st.just(3)).flatmap(lambda shape: arrays(np.uint8, shape)),
    st.binary(max_size=64),
)
QUICKLY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def answers(clf: Classifier, pictures: list[object], **options: int) -> list[object]:
    found = clf.predict_many(pictures, errors="yield", **options)
    return [str(answer) if isinstance(answer, PictureError) else answer for answer in found]


@QUICKLY
@given(pictures=st.lists(PICTURES, max_size=12), batch_size=st.integers(1, 15), workers=st.integers(1, 3))
def test_batch_size_and_threads_do_not_change_predictions(
    rgb: Classifier, pictures: list[object], batch_size: int, workers: int
) -> None:
    alone = [answers(rgb, [picture])[0] for picture in pictures]
    assert answers(rgb, pictures, batch_size=batch_size, workers=workers) == alone


@QUICKLY
@given(picture=PICTURES)
def test_probabilities_sum_to_1_and_are_sorted(grey: Classifier, picture: object) -> None:
    try:
        found = grey.predict(picture)
    except PictureError:
        assert isinstance(picture, bytes)
        return
    assert found.label in grey.spec.classes
    assert abs(sum(probability for _, probability in found.top) - 1) < 1e-5
    assert [value for _, value in found.top] == sorted((value for _, value in found.top), reverse=True)


@QUICKLY
@given(batch=st.integers(1, 9).flatmap(lambda count: arrays(np.uint8, (count, 8, 8, 3))))
def test_a_picture_alone_and_in_a_batch_has_the_same_probabilities(rgb: Classifier, batch: np.ndarray) -> None:
    together = rgb.probabilities(batch)
    for index in range(len(batch)):
        assert np.array_equal(rgb.probabilities(batch[index : index + 1])[0], together[index])
