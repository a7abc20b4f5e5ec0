"""cnn-export --strangers: both files compute how far a picture is from training, and their rule is measured."""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from cnn_export import Export, ExportError, GraphError, ParityError, export, export_lines, export_network, strangers
from cnn_export.graph.features import maps_of
from cnn_export.graph.strangeness import Statistics, add_strangeness
from cnn_export.run_data import open_run_source, read_dataset
from cnn_export.strangers import distances
from cnn_infer import Classifier, Spec, open_model
from cnn_train import Dataset, Run
from cnn_train.replay import logits_of
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from PIL import Image
from sklearn.covariance import LedoitWolf
from torch import Tensor, nn

RATE = 0.25
"""There are too few validation pictures for a smaller rate."""

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("strange") / "run")
    return export(folder, quantize=True, search_seconds=0, max_drop=100, evidence=True, strangers=RATE)


@pytest.fixture(scope="module")
def dataset(exported: Export) -> Dataset:
    run = exported.run
    assert run is not None
    return read_dataset(run, open_run_source(run, None))


def expected(of: Callable[[Pixels], tuple[Any, Any]], dataset: Dataset, pictures: Pixels) -> NDArray[np.float64]:
    """The definition, written out: ``of`` gives the maps that the second and the middle convolution read."""

    def features(pixels: Pixels) -> NDArray[np.float64]:
        means = [np.asarray(part, np.float64).mean(axis=(2, 3)) for part in of(pixels)]
        return np.concatenate([part / np.linalg.norm(part, axis=1, keepdims=True) for part in means], axis=1)

    train, labels = features(dataset.train.images), dataset.train.labels
    means = np.stack([train[labels == label].mean(axis=0) for label in range(3)])
    precision = LedoitWolf(assume_centered=True).fit(train - means[labels]).precision_
    offsets = features(pictures)[:, None] - means
    squares = np.einsum("ncf,fg,ncg->nc", offsets, precision, offsets)
    return squares.min(axis=1) / train.shape[1]


def strangeness(file: Path, pictures: Pixels) -> NDArray[np.float32]:
    session = open_model(file, device="cpu", outputs=["strangeness"]).session
    found: NDArray[np.float32] = session.run(["strangeness"], {"image": pictures})[0]
    return found


def test_fp32_computes_it_from_the_features_of_pytorch(exported: Export, dataset: Dataset) -> None:
    run = exported.run
    assert run is not None
    network, seen = run.network(), {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda _, inputs, name=name: seen.setdefault(name, inputs[0].detach()))
    convolutions = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)][1:]

    def of(pixels: Pixels) -> tuple[Any, Any]:
        seen.clear()
        logits_of(network, pixels, run.spec, torch.device("cpu"))
        return seen[convolutions[0]].numpy(), seen[convolutions[len(convolutions) // 2]].numpy()

    pictures = np.concatenate([dataset.test.images, np.zeros_like(dataset.test.images[:1])])
    found = strangeness(exported.folder / "model.onnx", pictures)
    np.testing.assert_allclose(found, expected(of, dataset, pictures), rtol=1e-3)


def test_int8_computes_it_from_its_own_features(exported: Export, dataset: Dataset) -> None:
    file = exported.folder / "model.int8.onnx"
    graph = onnx.load(file)
    convolutions = [node.input[0] for node in graph.graph.node if node.op_type == "Conv" and "/" not in node.name][1:]
    names = [convolutions[0], convolutions[len(convolutions) // 2]]
    graph.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = expected(lambda pixels: session.run(names, {"image": pixels}), dataset, dataset.test.images)
    np.testing.assert_allclose(strangeness(file, dataset.test.images), wanted, rtol=1e-3)


@pytest.mark.parametrize(("name", "file"), [("fp32", "model.onnx"), ("int8", "model.int8.onnx")])
def test_the_rule_is_in_the_file_the_report_and_the_summary(exported: Export, name: str, file: str) -> None:
    details = Classifier(exported.folder / file, device="cpu").spec.details
    rule, certificate = details["strangers"], details["parity"]["strangers"]
    assert rule == json.loads((exported.folder / "export.json").read_text())["strangers"][name]
    assert (rule["rate"], rule["test_pictures"]) == (RATE, details["parity"]["images"])
    assert certificate["images"] == rule["test_pictures"]
    assert 0 <= certificate["difference"] == rule["difference"] < certificate["tolerance"]
    low, high = rule["interval"]
    assert low <= rule["false_alarm_rate"] == rule["false_alarms"] / rule["test_pictures"] <= high
    assert f"  strangers    {rule['false_alarms']} of {rule['test_pictures']} test pictures" in "\n".join(
        export_lines(exported)
    )


@pytest.mark.parametrize("file", ["model.onnx", "model.int8.onnx"])
def test_pictures_of_the_data_set_are_quiet_and_others_loud(exported: Export, dataset: Dataset, file: str) -> None:
    classifier = Classifier(exported.folder / file, device="cpu", strangers=True)
    random = np.random.default_rng(0)
    noise = [*random.integers(0, 256, (20, 16, 16, 3), np.uint8)]
    blank = [np.full((16, 16, 3), grey, np.uint8) for grey in (0, 90, 255)]
    sets: dict[str, Iterable[Pixels]] = {"test": dataset.test.images, "noise": noise, "blank": blank}
    labels = {name: [classifier.predict(one).label for one in pictures] for name, pictures in sets.items()}
    assert labels["noise"].count("stranger") == len(noise)
    assert labels["blank"].count("stranger") == 3
    assert labels["test"].count("stranger") == classifier.spec.details["strangers"]["false_alarms"]


@pytest.mark.parametrize("fault", ["covariance", "graph"])
def test_a_wrong_output_is_never_exported(
    exported: Export, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def wrong(model: ModelProto, statistics: Statistics) -> ModelProto:
        if fault == "covariance":
            return add_strangeness(model, Statistics(statistics.means, 1.01 * statistics.covariance))
        result = add_strangeness(model, statistics)
        for node in result.graph.node:
            if node.op_type == "ReduceMin":
                node.op_type = "ReduceMax"
        return result

    monkeypatch.setattr(strangers, "add_strangeness", wrong)
    classifier = Classifier(exported.folder / "model.onnx", device="cpu")
    model, without = plain(exported.folder / "model.onnx"), classifier.probabilities(dataset.test.images)
    with pytest.raises(ParityError, match=r"strangeness differs by up to .* from a computation in float64"):
        strangers.with_strangeness(tmp_path, model, classifier.spec, dataset, dataset.test, without, RATE)


def test_the_picture_whose_probabilities_change_is_named(
    exported: Export, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, other = 1, 2

    def further(features: NDArray[np.float32], statistics: Statistics) -> NDArray[np.float64]:
        found = distances(features, statistics)
        found[other] += strangers.TOLERANCE / 2
        return found

    monkeypatch.setattr(strangers, "distances", further)
    classifier = Classifier(exported.folder / "model.onnx", device="cpu")
    without = classifier.probabilities(dataset.test.images)
    without[most, 0] += 0.1
    model = plain(exported.folder / "model.onnx")
    with pytest.raises(ParityError, match=r"changes probabilities by up to 0\.1 ") as raised:
        strangers.with_strangeness(tmp_path, model, classifier.spec, dataset, dataset.test, without, RATE)
    assert f"(at {dataset.test.names[most]})" in str(raised.value)


def plain(file: Path) -> ModelProto:
    """The graph of a file without its optional outputs."""
    model = onnx.load_from_string(open_model(file, device="cpu").data)
    for part in (model.graph.node, model.graph.initializer, model.graph.output):
        kept = [one for one in part if not one.name.startswith(("strangeness", "evidence"))]
        del part[:]
        part.extend(kept)
    return model


def test_the_threshold_keeps_its_rate_for_any_distribution() -> None:
    random = np.random.default_rng(0)
    alarms = []
    for _ in range(2000):
        scores = random.standard_cauchy(100).astype(np.float32)
        alarms.append(scores[-1] > strangers.choose_threshold(scores[:99], 0.05))
    assert 0.03 < np.mean(alarms) <= 0.06  # at most 5% are expected
    assert strangers.choose_threshold(np.arange(99.0), 0.01) == 98
    assert strangers.choose_threshold(np.arange(99.0), 0.05) == 94


def test_what_cannot_be_done_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ExportError,
        match=r"^strangers \(--strangers\): a share of 1.0% needs at least 99 validation pictures, and there are",
    ):
        export(run, strangers=0.01)
    assert not (run.path / "model.onnx").exists()
    with pytest.raises(ExportError, match="strangers must be more than 0 and less than 1, not 2"):
        export(run, strangers=2)
    monkeypatch.setattr("cnn_export.int8.arithmetic.kind_of_this_machine", lambda: "vnni")
    with pytest.raises(
        ExportError, match=r"^strangers \(--strangers\) needs an int8 model that this machine computes: .* not arm"
    ):
        export(run, strangers=RATE, quantize=True, target="arm")
    with pytest.raises(ExportError, match=r"^strangers \(--strangers\): .* not a number"):
        strangers.statistics_of(np.array([[np.nan]], np.float32), np.array([0]))
    with pytest.raises(ExportError, match=r"^strangers \(--strangers\): .* all have the same features"):
        strangers.statistics_of(np.ones((2, 3), np.float32), np.array([0, 0]))


def test_a_network_without_feature_maps_is_refused(exported: Export) -> None:
    model = plain(exported.folder / "model.onnx")
    assert [channels for _, channels in maps_of(model)] == [24, 48]
    for node in [node for node in model.graph.node if node.op_type == "Conv"][1:]:
        node.op_type = "MaxPool"
    with pytest.raises(GraphError, match=r"strangers \(--strangers\) needs a network with two convolutions or more"):
        strangers.check_network(model, None)


class Branches(nn.Module):
    """Two convolutions side by side read the picture, and ``after`` reads the sum of what they give."""

    def __init__(self, *after: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1)
        self.after = nn.Sequential(*after, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.after(self.left(pictures).relu() + self.right(pictures.flip(3)).relu())
        return logits


def test_strangers_of_the_same_mean_colour_are_found_by_a_network_with_branches_at_its_input(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name, colour in (("blue", (60, 60, 170)), ("green", (60, 150, 60)), ("red", (170, 60, 60))):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(30):
            patches = np.kron(random.integers(-40, 40, (5, 5, 3)), np.ones((4, 4, 1)))
            pixels = np.array(colour) + random.integers(-50, 50, 3) + patches
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "data" / name / f"{number}.png")
    options: dict[str, Any] = {"data": tmp_path / "data", "size": 16, "strangers": RATE, "cache": tmp_path / "cache"}
    options |= {"mean": (0.2, 0.5, 0.85), "std": (0.1, 0.3, 0.2)}
    network = Branches(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
    classifier = Classifier(export_network(network, tmp_path / "out", **options).ship, device="cpu", strangers=True)
    labels = []
    for path in sorted(tmp_path.glob("data/*/*.png"))[::10]:
        colour = np.asarray(Image.open(path)).mean(axis=(0, 1))
        dots = np.where(255 * random.random((16, 16, 3)) < colour, 255, 0).astype(np.uint8)
        labels.append(classifier.predict(dots).label)
    assert labels.count("stranger") >= 8
    with pytest.raises(GraphError, match="two convolutions or more, one after the other"):
        export_network(Branches(), tmp_path / "out", **options)


def test_the_specification_stays_readable(exported: Export) -> None:
    spec = Classifier(exported.folder / "model.onnx", device="cpu").spec
    assert Spec.from_json(spec.to_json()) == spec


def test_the_schema_of_the_specification_knows_the_optional_outputs(
    exported: Export, spec_problems: Callable[..., list[str]]
) -> None:
    assert exported.int8 is not None
    for file in ("model.onnx", exported.int8.file):
        spec = Classifier(exported.folder / file, device="cpu").spec
        rule, evidence = spec.details["strangers"], spec.details["evidence"]
        assert spec_problems(spec) == []
        assert spec_problems(spec, strangers={**rule, "rate": 2}) == ["$.details.strangers.rate"]
        assert spec_problems(spec, evidence={**evidence, "pooling": "sum"}) == ["$.details.evidence.pooling"]
        field = {**evidence["receptive_field"]}
        del field["whole_picture"]  # cnn-infer needs it
        wrong = {**evidence, "receptive_field": field}
        assert spec_problems(spec, evidence=wrong) == ["$.details.evidence.receptive_field"]
