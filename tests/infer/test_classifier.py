"""Classifier: one picture, many pictures, and arrays."""

from __future__ import annotations

import copy
import io
import itertools
import multiprocessing
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cnn_infer import UNKNOWN, Classifier, InputError, PictureError, Prediction
from PIL import Image

NAMES = {"red": (220, 10, 10), "green": (10, 220, 10), "blue": (10, 10, 220), "grey": (120, 120, 120)}


def solid(name: str) -> np.ndarray:
    return np.full((8, 8, 3), NAMES[name], np.uint8)


def by_hand(pixels: np.ndarray) -> np.ndarray:
    """The probabilities of rgb.onnx for uint8 (8, 8, 3)."""
    red, green, blue = (pixels.reshape(-1, 3).mean(axis=0) - 128) / 64
    logits = np.array(
        [4 * red - 2 * green - 2 * blue, 4 * green - 2 * red - 2 * blue, 4 * blue - 2 * red - 2 * green, 2]
    )
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_those_computed_by_hand(rgb: Classifier, name: str) -> None:
    found = rgb.predict(solid(name))
    want = by_hand(solid(name))
    assert found.label == name
    assert found.index == rgb.spec.classes.index(name) == want.argmax()
    assert found.probability == pytest.approx(want.max(), abs=1e-5)
    assert [label for label, _ in found.top] == [rgb.spec.classes[i] for i in np.argsort(-want, kind="stable")]
    np.testing.assert_allclose([value for _, value in found.top], np.sort(want)[::-1], atol=1e-5)


def test_paths_bytes_images_and_arrays_give_the_same_prediction(rgb: Classifier, tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (30, 41, 3), np.uint8)
    path = tmp_path / "noise.png"
    Image.fromarray(pixels).save(path)
    want = rgb.predict(pixels)
    for source in (path, str(path), path.read_bytes(), Image.open(path), Image.fromarray(pixels)):
        assert rgb.predict(source) == want
    grey = pixels[..., 0]
    assert rgb.predict(grey) == rgb.predict(np.stack([grey] * 3, axis=-1)) == rgb.predict(grey[..., None])


def test_top_and_threshold() -> None:
    path = Path(__file__).parent / "models" / "rgb.onnx"
    model = Classifier(path).model
    probability = Classifier(model).predict(solid("grey")).probability
    assert 0.5 < probability < 0.999
    assert len(Classifier(model, top=2).predict(solid("red")).top) == 2
    assert len(Classifier(model, top=99).predict(solid("red")).top) == 4
    assert Classifier(model, threshold=probability).predict(solid("grey")).label == "grey"
    below = Classifier(model, threshold=float(np.nextafter(probability, 1)), top=1).predict(solid("grey"))
    assert below == Prediction(UNKNOWN, None, probability, (("grey", probability),))
    assert UNKNOWN == "unknown"
    for wrong in ({"top": 0}, {"threshold": -0.1}, {"threshold": 1.1}, {"threshold": float("nan")}):
        with pytest.raises(InputError):
            Classifier(model, **wrong)  # type: ignore[arg-type]


def test_of_equal_probabilities_the_lower_index_comes_first(rgb: Classifier) -> None:
    found = rgb.to_prediction(np.array([0.1, 0.4, 0.4, 0.1], np.float32))
    assert [label for label, _ in found.top] == ["green", "blue", "red", "grey"]
    names = tuple(f"class {number}" for number in range(100))
    large = Classifier(replace(rgb.model, spec=replace(rgb.spec, classes=names)), top=100)
    ties = np.tile(np.array([0.01, 0.02], np.float32), 50)
    assert [label for label, _ in large.to_prediction(ties).top] == [*names[1::2], *names[::2]]


def test_probabilities_accept_only_a_batch_of_the_models_size(rgb: Classifier) -> None:
    batch = np.stack([solid(name) for name in NAMES])
    found = rgb.probabilities(batch)
    assert found.dtype == np.float32
    assert found.shape == (4, 4)
    np.testing.assert_allclose(found, [by_hand(pixels) for pixels in batch], atol=1e-5)
    turned = np.ascontiguousarray(batch.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)  # the same values, strided
    np.testing.assert_array_equal(rgb.probabilities(turned), found)
    wrong = [batch[0], batch[:0], batch[:, :7], batch[..., :1], batch.astype(np.float32), batch.astype(np.int8)]
    for array in (*wrong, np.zeros((), np.uint8), batch[None]):
        with pytest.raises(InputError, match=r"expected uint8 of shape \(n, 8, 8, 3\)"):
            rgb.probabilities(array)
    for other in (batch.tolist(), "a.png", None):
        with pytest.raises(InputError, match="expected a NumPy array, not "):
            rgb.probabilities(other)  # type: ignore[arg-type]


def test_max_pixels_limits_the_size_of_pictures(rgb: Classifier) -> None:
    small = Classifier(rgb.model, max_pixels=63)
    with pytest.raises(PictureError, match="exceed the limit"):
        small.predict(Image.new("RGB", (8, 8)))


def test_it_is_a_context_manager_and_opens_bytes(models: Path) -> None:
    with Classifier((models / "grey.onnx").read_bytes()) as classifier:
        assert classifier.predict(np.full((3, 5), 255, np.uint8)).label == "bright"
        assert classifier.provider == "CPUExecutionProvider"
        assert classifier.spec.classes == ("dark", "middle", "bright")


def mixed(count: int) -> tuple[list[object], list[str]]:
    """Pictures of several kinds and sizes, and their classes."""
    names = [list(NAMES)[index * index % 4] for index in range(count)]
    sources: list[object] = []
    for index, name in enumerate(names):
        image = Image.new("RGB", (5 + index % 7, 9), NAMES[name])
        stream = io.BytesIO()
        image.save(stream, "JPEG" if index % 2 else "PNG")
        sources.append((image, np.asarray(image), stream.getvalue())[index % 3])
    return sources, names


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 2, 7, 32, 1000])
def test_many_pictures_keep_their_order(rgb: Classifier, workers: int, batch_size: int) -> None:
    sources, names = mixed(53)
    found = list(rgb.predict_many(sources, batch_size=batch_size, workers=workers))  # type: ignore[arg-type]
    assert [item.label for item in found] == names
    np.testing.assert_allclose(
        [item.probability for item in found], [rgb.predict(item).probability for item in sources], atol=1e-6
    )


@pytest.mark.parametrize(
    ("workers", "provider", "sizes"),
    [(2, None, None), (1, None, [32, 32, 32, 4]), (2, "OtherExecutionProvider", [4, 32, 32, 32])],
)
def test_only_several_threads_on_a_cpu_get_small_batches(
    rgb: Classifier, workers: int, provider: str | None, sizes: list[int] | None
) -> None:
    seen = []

    class Recording(Classifier):
        def _run(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
            seen.append(len(batch))
            return super()._run(batch)

    classifier = Recording(rgb.model)
    classifier.provider = provider or classifier.provider
    assert len(list(classifier.predict_many([solid("red")] * 100, workers=workers))) == 100
    if sizes is None:
        assert seen.count(4) >= 4
        assert sum(seen) == 100
    else:
        assert sorted(seen) == sorted(sizes)


def test_no_pictures_give_no_predictions(rgb: Classifier) -> None:
    assert list(rgb.predict_many([])) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_an_endless_iterable_is_read_only_a_few_batches_ahead(rgb: Classifier, workers: int) -> None:
    read = 0

    def camera() -> Iterator[np.ndarray]:
        nonlocal read
        for name in itertools.cycle(NAMES):
            read += 1
            yield solid(name)

    stream = rgb.predict_many(camera(), batch_size=4, workers=workers)
    assert read == 0
    assert [item.label for item in itertools.islice(stream, 10)] == [*NAMES, *NAMES, "red", "green"]
    assert read <= 10 + 4 * (2 * workers + 2)
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cnn-infer")]


@pytest.mark.parametrize("workers", [1, 3])
def test_behind_a_slow_picture_only_a_few_batches_wait(rgb: Classifier, tmp_path: Path, workers: int) -> None:
    Image.new("RGB", (8, 8), NAMES["blue"]).save(tmp_path / "blue.png")
    waited = threading.Event()
    read = 0

    class Slow:
        """A path that blocks until it is released."""

        def __fspath__(self) -> str:
            assert waited.wait(60)
            return str(tmp_path / "blue.png")

    def pictures() -> Iterator[object]:
        nonlocal read
        for picture in itertools.chain([Slow()], itertools.repeat(solid("red"), 10_000)):
            read += 1
            yield picture

    found: list[Prediction] = []
    stream = rgb.predict_many(pictures(), batch_size=4, workers=workers)  # type: ignore[arg-type]
    reader = threading.Thread(target=lambda: found.extend(stream))
    reader.start()
    before = -1
    while read != before or not read:
        before = read
        time.sleep(0.3)
    assert 4 < read <= 4 * (2 * workers + 1)
    assert not found
    waited.set()
    reader.join(30)
    assert [item.label for item in found] == ["blue"] + ["red"] * 10_000


@pytest.mark.parametrize("workers", [1, 3])
def test_an_unreadable_picture_is_raised_or_yielded_in_its_place(rgb: Classifier, workers: int) -> None:
    sources: list[object] = [solid("red"), b"", solid("blue"), b"text", solid("grey")]
    stream = rgb.predict_many(sources, batch_size=2, workers=workers)  # type: ignore[arg-type]
    assert next(stream).label == "red"
    with pytest.raises(PictureError, match="empty"):
        next(stream)
    found = list(rgb.predict_many(sources, batch_size=2, workers=workers, errors="yield"))  # type: ignore[arg-type]
    assert [type(item) for item in found] == [Prediction, PictureError, Prediction, PictureError, Prediction]
    assert [item.label for item in found if isinstance(item, Prediction)] == ["red", "blue", "grey"]
    alone = list(rgb.predict_many([b"", b""], errors="yield"))
    assert [str(item) for item in alone] == ["the file is empty"] * 2


def untouched() -> Iterator[np.ndarray]:
    pytest.fail("a picture was read")
    yield solid("red")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number of at least 1, not 2.5"),
        ({"workers": -1}, "workers must be a whole number of at least 1, not -1"),
        ({"errors": "ignore"}, "errors must be 'raise' or 'yield', not 'ignore'"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_at_the_call(rgb: Classifier, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as found:
        rgb.predict_many(untouched(), **wrong)  # type: ignore[call-overload]
    assert str(found.value) == message


def test_exceptions_of_the_iterable_are_passed_on(rgb: Classifier) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield solid("red")
        raise RuntimeError("the camera is gone")

    with pytest.raises(RuntimeError, match="the camera is gone"):
        list(rgb.predict_many(broken()))


def test_eight_threads_share_one_classifier(rgb: Classifier) -> None:
    sources, names = mixed(40)
    want = [rgb.predict(source) for source in sources]  # type: ignore[arg-type]
    assert [item.label for item in want] == names
    start = threading.Barrier(8)

    def work(_: int) -> list[Prediction]:
        start.wait()
        return [rgb.predict(source) for source in sources]  # type: ignore[arg-type]

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(work, range(8)):
            assert found == want


@pytest.mark.parametrize("one", ["photo.jpg", b"bytes", Path("photo.jpg"), Image.new("L", (8, 8)), None], ids=type)
def test_a_single_picture_is_refused_by_predict_many(rgb: Classifier, one: object) -> None:
    with pytest.raises(InputError, match="predict_many takes an iterable of pictures"):
        rgb.predict_many(one)  # type: ignore[call-overload]


def test_the_error_names_the_unreadable_picture(rgb: Classifier, tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"absent\.jpg: cannot read it: No such file"):
        rgb.predict(tmp_path / "absent.jpg")
    paths: list[object] = [solid("red"), tmp_path / "absent.jpg", b""]
    with pytest.raises(PictureError, match=r"absent\.jpg: cannot read it: No such file"):
        list(rgb.predict_many(paths))  # type: ignore[arg-type]
    _, absent, empty = rgb.predict_many(paths, errors="yield")  # type: ignore[arg-type]
    assert str(absent) == f"{tmp_path / 'absent.jpg'}: cannot read it: No such file or directory"
    assert str(empty) == "the file is empty"


@pytest.mark.parametrize(
    "copied", [lambda item: pickle.loads(pickle.dumps(item)), copy.deepcopy], ids=["pickle", "copy"]
)
def test_a_copy_opens_the_model_again(models: Path, copied: Callable[[Classifier], Classifier]) -> None:
    original = Classifier(models / "rgb.onnx", device="cpu", threads=2, top=2, threshold=1.0)
    found = copied(original)
    assert found.model.session is not original.model.session
    assert found.model.session.get_session_options().intra_op_num_threads == 2
    for name in ("name", "provider", "chosen", "data", "digest", "spec", "metadata", "bytes"):
        assert getattr(found.model, name) == getattr(original.model, name)
    batch = np.stack([solid(name) for name in NAMES])
    np.testing.assert_array_equal(found.probabilities(batch), original.probabilities(batch))
    assert list(found.predict_many(batch)) == list(original.predict_many(batch))
    assert found.predict(solid("red")).label == UNKNOWN


def test_processes_get_the_classifier(rgb: Classifier) -> None:
    batches = [np.stack([solid(name)] * 3) for name in NAMES]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for found, batch in zip(pool.map(rgb.probabilities, batches), batches, strict=True):
            np.testing.assert_array_equal(found, rgb.probabilities(batch))
