"""Guarantees: the bound holds, one look at the test split, what is refused, and where the promise is stored."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from cnn_export import ExportError, GuaranteeError, Verdict, export, export_lines, exporting, guarantee
from cnn_export.cli import command
from cnn_export.confidence import Confidence
from cnn_infer import Classifier, evaluate
from cnn_infer.guarantee import guarantee_of
from cnn_train import Run, open_source
from numpy.typing import NDArray
from scipy.stats import binomtest

Labelled = tuple[NDArray[np.float64], NDArray[np.int64]]


def outputs(top: NDArray[np.float64], wrong: NDArray[np.bool_]) -> Labelled:
    """Probabilities of two classes with these top probabilities; the true class is 0."""
    first = np.where(wrong, 1 - top, top)
    return np.stack([first, 1 - first], axis=1), np.zeros(len(top), np.int64)


def drawn(random: np.random.Generator, count: int, error: float) -> Labelled:
    """Pictures whose answers are wrong with the same probability, however sure they are."""
    return outputs(random.uniform(0.6, 1, count), random.random(count) < error)


def sorted_out(count: int, wrong_below: float) -> Labelled:
    """Pictures whose answers are right at a top probability of at least ``wrong_below``, and wrong below it."""
    top = np.linspace(0.501, 0.999, count)
    return outputs(top, top < wrong_below)


def test_a_broken_promise_is_given_in_at_most_five_of_a_hundred_cases() -> None:
    """The worst case: validation says nothing against any threshold, and all of them are a little too bad."""
    random = np.random.default_rng(0)
    given, trials = 0, 300
    for _ in range(trials):
        try:
            guarantee(drawn(random, 300, 0.0), drawn(random, 1000, 0.1005), max_error=0.1)
        except GuaranteeError:
            continue
        given += 1
    assert 0 < given <= 0.05 * trials + 2 * (0.05 * 0.95 * trials) ** 0.5


def test_the_threshold_separates_right_from_wrong_and_the_bound_is_exact() -> None:
    found = guarantee(sorted_out(2000, 0.7), sorted_out(5000, 0.7), max_error=0.02)
    assert 0.69 < found.threshold < 0.701
    assert found.coverage == pytest.approx(0.6, abs=0.02)
    test = sorted_out(5000, 0.7)
    answered = test[0].max(axis=1) >= found.threshold
    assert (found.images, found.answered) == (5000, answered.sum())
    assert found.wrong == (test[0].argmax(axis=1) != 0)[answered].sum()
    exact = binomtest(found.wrong, found.answered).proportion_ci(0.9).high  # one side of a two-sided 90% is 95%
    assert found.error_bound == pytest.approx(exact)
    assert found.error_bound <= found.max_error


def test_a_network_that_is_good_enough_answers_everything() -> None:
    found = guarantee(sorted_out(500, 0), sorted_out(500, 0), max_error=0.02)
    assert (found.threshold, found.coverage, found.wrong) == (0, 1, 0)


def test_it_says_how_many_pictures_would_be_needed() -> None:
    with pytest.raises(
        GuaranteeError, match=r"0 of 100 answered test pictures are wrong, so only at most 2\.95%"
    ) as few:
        guarantee(sorted_out(400, 0), sorted_out(100, 0), max_error=0.01)
    assert few.value.exit_code == 1
    assert few.value.needed == pytest.approx(300, abs=30)  # ln 0.05 / ln 0.99 = 298.1
    assert guarantee(sorted_out(400, 0), sorted_out(few.value.needed, 0), max_error=0.01).coverage > 0.9
    random = np.random.default_rng(0)
    with pytest.raises(GuaranteeError, match="more test pictures would not help") as never:
        guarantee(drawn(random, 2000, 0.5), drawn(random, 2000, 0.5), max_error=0.01)
    assert never.value.needed is None


def test_what_cannot_be_judged_is_refused() -> None:
    good = sorted_out(100, 0)
    for wrong in (0, 1, 1.5, float("nan")):
        with pytest.raises(ExportError, match="max_error must be more than 0 and less than 1"):
            guarantee(good, good, max_error=wrong)
    with pytest.raises(ExportError, match="needs validation pictures and test pictures"):
        guarantee(sorted_out(0, 0), good, max_error=0.1)
    with pytest.raises(GuaranteeError, match="a probability is not a number"):
        guarantee((np.full((5, 2), np.nan), np.zeros(5, np.int64)), good, max_error=0.1)


@pytest.fixture(scope="module")
def certified(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An export to fp32 and int8 that promises at most 50% wrong answers: six test pictures cannot show more."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("certified") / "run")
    return export(folder, quantize=True, search_seconds=0, max_drop=100, max_error=0.5)


def test_the_promise_is_in_the_files_in_the_report_and_in_the_summary(certified: Any) -> None:
    report = json.loads((certified.folder / "export.json").read_text())
    for name, file in (("fp32", "model.onnx"), ("int8", certified.int8.file)):
        classifier = Classifier(certified.folder / file, threshold="certified")
        found = certified.confidence[name].guarantee
        assert classifier.guarantee == found
        assert classifier.spec.details["parity"]["calibration"] == certified.confidence[name].calibration
        assert report["guarantee"][name] == found.to_json() == classifier.spec.details["guarantee"]
        assert (found.images, found.max_error, found.confidence) == (6, 0.5, 0.95)
        assert found.text in "\n".join(export_lines(certified))


def test_the_coverage_is_that_of_the_command_on_the_test_pictures(certified: Any, photos: Path) -> None:
    """The threshold and its counts are those of the file itself, in the arithmetic of ONNX Runtime."""
    source = open_source(str(photos), seed=certified.run.config.seed)
    report = json.loads((certified.folder / "export.json").read_text())["calibration"]
    paths = [str(path) for path in source.splits["test"].pictures]
    for name, file in (("fp32", "model.onnx"), ("int8", certified.int8.file)):
        found = evaluate(Classifier(certified.folder / file, threshold="certified"), paths).guarantee
        promise = certified.confidence[name].guarantee
        assert found is not None
        assert (found["coverage"], found["labelled"], found["wrong"]) == (
            promise.coverage,
            promise.answered,
            promise.wrong,
        )
        calibration, stored = evaluate(Classifier(certified.folder / file), paths).calibration, report[name]
        assert calibration is not None
        assert (calibration["ece"], calibration["brier"]) == pytest.approx((stored["ece"], stored["brier"]), rel=1e-5)


def test_a_promise_that_cannot_be_had_is_not_stored(run: Run) -> None:
    done = CliRunner().invoke(command, [str(run.path), "--max-error", "1%"])
    assert isinstance(done.exception, GuaranteeError)
    reason = "fp32: no threshold is certified for 1.0%: 0 of 6 answered test pictures are "
    assert str(done.exception).startswith(reason)
    assert "refused      no threshold is certified" in done.output  # after the summary
    spec = Classifier(run.path / "model.onnx").spec
    assert guarantee_of(spec.details) is None
    assert "guarantee" not in spec.details
    assert "no threshold" in json.loads((run.path / "export.json").read_text())["guarantee"]["fp32"]["refused"]


@pytest.mark.parametrize("rejected", [True, False])
def test_a_rejected_int8_model_needs_no_guarantee(
    certified: Any, rejected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    int8 = replace(certified.int8, verdict=Verdict(not rejected, None, "", 0.1))
    confidence = {**certified.confidence, "int8": Confidence(None, None, refused="too many answers are wrong")}
    result = replace(certified, int8=int8, confidence=confidence)
    monkeypatch.setattr(exporting, "export", lambda *_, **__: result)
    done = CliRunner().invoke(command, ["--quantize", "--max-error", "50%"])
    assert "refused      too many answers are wrong" in done.output
    assert str(done.exception) == ("None" if rejected else "int8: too many answers are wrong")


@pytest.mark.parametrize("text", ["0", "1", "5", "100%", "-1%", "one", "1%%", "nan"])
def test_shares_that_are_none_are_refused(text: str) -> None:
    done = CliRunner().invoke(command, ["nowhere", "--max-error", text])
    assert done.exit_code == 2
    assert "is neither a percentage, such as 1%, nor a share between 0 and 1, such as 0.01" in done.output
    assert (f"; did you mean {text}%?" in done.output) == (text in ("1", "5"))


def test_without_the_validation_pictures_there_is_no_guarantee(run: Run) -> None:
    path = run.path / "spec.json"
    spec = json.loads(path.read_text())
    spec["details"]["data"]["fingerprints"]["val"] = "of other pictures"
    path.write_text(json.dumps(spec))
    with pytest.raises(ExportError, match=r"max_error \(--max-error\) needs the validation pictures of the run"):
        export(run.path, max_error=0.5)


def test_the_schema_of_the_specification_knows_the_promise(
    certified: Any, spec_problems: Callable[..., list[str]]
) -> None:
    for file in ("model.onnx", certified.int8.file):
        spec = Classifier(certified.folder / file).spec
        entry = spec.details["guarantee"]
        assert spec_problems(spec) == []
        assert spec_problems(spec, guarantee={**entry, "error_bound": 1.5}) == ["$.details.guarantee.error_bound"]
        for key in {*entry} - {"text"}:  # what cnn-infer needs
            without = {name: value for name, value in entry.items() if name != key}
            assert spec_problems(spec, guarantee=without) == ["$.details.guarantee"]
            assert guarantee_of({"guarantee": without}) is None
