"""A network from elsewhere: its file computes what it computes, at the border of the picture too."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from cnn_export import ExportError, GraphError, export as export_run, export_lines, export_network
from cnn_export.graph.first_layer import OWN_LAYER
from cnn_infer import Classifier, newest_export, to_pixels, verify_all
from cnn_train import DataError
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

MEAN, STD = (0.2, 0.5, 0.85), (0.1, 0.3, 0.2)
"""The colours differ so much that a mistake at the border changes every logit."""

Export = Callable[..., Any]


class Function(nn.Module):
    """A network with a function after its layers, which gets their output and their input."""

    def __init__(self, function: Callable[[Any, Tensor], Any], *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.function = function

    def forward(self, pictures: Tensor) -> Any:
        return self.function(self.layers(pictures), pictures)


def small(first: nn.Module | None = None, outputs: int = 3) -> nn.Sequential:
    """A small classifier of 16 x 16 pixels. It has seen pictures, and keeps the place of every pixel."""
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 3, padding=1, bias=False) if first is None else first
    features = nn.Sequential(first, nn.ReLU(), nn.Flatten())
    return nn.Sequential(*features, nn.Linear(features(torch.zeros(1, 3, 16, 16)).shape[1], outputs))


@pytest.fixture
def export(photos: Path, tmp_path: Path) -> Export:
    def call(network: Any, folder: Path | None = None, **options: Any) -> Any:
        settings = {"data": photos, "size": 16, "mean": MEAN, "std": STD, "cache": tmp_path / "cache", **options}
        return export_network(network, folder or tmp_path / "out", **settings)

    return call


def logits_of(network: nn.Module, classifier: Classifier, pictures: list[Path]) -> tuple[Any, Any]:
    """The logits of a network with its own normalisation, written out, and those of a file, for the same pictures."""
    pixels = np.stack([to_pixels(path, classifier.spec) for path in pictures])
    normalised = (pixels / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    with torch.no_grad():
        wanted = network.eval()(torch.from_numpy(normalised.transpose(0, 3, 1, 2).copy())).numpy()
    return wanted, classifier.model.session.run(["logits"], {"image": pixels})[0]


@pytest.mark.parametrize(
    ("first", "operators"),
    [
        (None, ["Transpose", "Pad", "DequantizeLinear", "Conv"]),
        (nn.Conv2d(3, 8, 4, stride=4), ["Transpose", "DequantizeLinear", "Conv"]),
        (
            nn.Sequential(nn.ZeroPad2d((0, 1, 2, 0)), nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)),
            ["Transpose", "Pad", "DequantizeLinear", "Conv"],
        ),
        (nn.Conv2d(3, 9, 3, padding=1, groups=3), ["Transpose", "DequantizeLinear", OWN_LAYER, "Conv"]),
        (nn.MaxPool2d(2), ["Transpose", "DequantizeLinear", OWN_LAYER, "MaxPool"]),
    ],
    ids=["padding", "no padding", "padding apart", "groups", "no convolution"],
)
def test_the_file_computes_what_the_network_computes(
    export: Export, photos: Path, first: nn.Module | None, operators: list[str]
) -> None:
    network = small(first)
    result = export(network)
    assert result.parity.passed
    assert result.parity.images == 6
    wanted, found = logits_of(network, Classifier(result.ship, device="cpu"), sorted(photos.glob("*/*.jpg"))[::5])
    assert np.abs(wanted).max() > 0.3
    assert np.abs(found - wanted).max() < 2e-6 * np.abs(wanted).max() + 2e-6
    nodes = onnx.load(result.ship).graph.node
    names = [OWN_LAYER if node.name == OWN_LAYER else node.op_type for node in nodes]
    assert list(dict.fromkeys(names))[: len(operators)] == operators


@pytest.fixture(scope="module")
def trained_network(photos: Path) -> nn.Sequential:
    """It tells the three colours apart; its outputs are in the order red, green, blue."""
    network = small()
    paths = sorted(photos.glob("*/*.jpg"))
    pixels = np.stack([np.asarray(Image.open(path).resize((16, 16))) for path in paths]) / 255
    pictures = torch.tensor((pixels - MEAN) / STD, dtype=torch.float32).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor([("red", "green", "blue").index(path.parent.name) for path in paths])
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        functional.cross_entropy(network(pictures), labels).backward()
        optimizer.step()
    return network


@pytest.fixture(scope="module")
def quantized(photos: Path, trained_network: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The export of the trained network to fp32 and int8, calibrated, below a folder of runs."""
    out = tmp_path_factory.mktemp("runs")
    options: dict[str, Any] = {"quantize": True, "search_seconds": 0, "calibrate": True, "cache": out / ".cache"}
    classes = ("red", "green", "blue")
    return export_network(
        trained_network, out / "mine", data=photos, size=16, mean=MEAN, std=STD, classes=classes, **options
    )


def test_the_command_refuses_the_folder_and_names_the_function(quantized: Any) -> None:
    with pytest.raises(ExportError, match=r"mine has no run of cnn-train: it was written by export_network.*quantize"):
        export_run(quantized.folder)


def test_int8_ships_and_reads_raw_bytes(quantized: Any) -> None:
    assert quantized.int8.verdict.ships
    assert quantized.accuracy == quantized.int8.test.accuracy_int8 == 1
    assert newest_export(quantized.folder.parent) == quantized.ship == quantized.folder / "model.int8.onnx"
    nodes = onnx.load(quantized.ship).graph.node
    first = next(node for node in nodes if node.op_type == "Conv")
    (reads,) = [node for node in nodes if first.input[0] in node.output]
    (bytes_,) = [node for node in nodes if reads.input[0] in node.output]
    assert (reads.op_type, bytes_.op_type) == ("DequantizeLinear", "Pad")
    assert quantized.int8.strays == ()


def test_the_files_prove_themselves_and_name_the_classes(quantized: Any, photos: Path) -> None:
    for name in ("model.onnx", "model.int8.onnx"):
        classifier = Classifier(quantized.folder / name, device="cpu")
        found = verify_all(classifier)
        assert found.passed
        assert {result.stage for result in found.stages} >= {"decode", "resize", "graph", "probabilities"}
        assert classifier.spec.classes == ("red", "green", "blue")
        assert classifier.predict(photos / "green" / "0.jpg").label == "green"
        assert classifier.spec.details["settings"]["mean"] == list(MEAN)
        assert classifier.spec.details["metrics"]["test"]["accuracy"] == 1
        assert classifier.spec.details["parity"]["top_probability"]["images"] == 6
    text = "\n".join(export_lines(quantized))
    assert f"folder         {quantized.folder}" in text
    assert "verdict      ships" in text


def test_calibration_divides_the_logits_by_the_temperature(
    quantized: Any, trained_network: nn.Sequential, photos: Path
) -> None:
    classifier = Classifier(quantized.folder / "model.onnx", device="cpu")
    wanted, found = logits_of(trained_network, classifier, sorted(photos.glob("*/*.jpg"))[::9])
    assert classifier.spec.temperature != 1
    assert found == pytest.approx(wanted / classifier.spec.temperature, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile], ids=["data parallel", "compiled"])
def test_a_wrapped_network_is_exported_and_stays_as_it_is(export: Export, wrap: Callable[..., nn.Module]) -> None:
    network = small(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(0.5)))
    network.train()
    network[0].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert export(wrap(network)).parity.passed
    assert [module.training for module in network] == [False, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_network_that_guesses_is_noted(export: Export) -> None:
    result = export(Function(lambda found, _: torch.log_softmax(0 * found, dim=1), small()))
    lines = [line.removeprefix("note           ") for line in export_lines(result) if line.startswith("note ")]
    assert lines == list(result.notes) == json.loads((result.folder / "export.json").read_text())["notes"]
    assert lines[0] == "no test split: 6 of 60 training pictures were set aside (seed 0)"
    assert lines[-1].startswith("the network classifies 2 of 6 test pictures correctly, which may be chance: check")


def half_of_a_layer() -> nn.Module:
    network = small()
    network[3].half()
    return network


NOT_CLASSIFIERS: dict[str, tuple[Any, str]] = {
    "state dict": (small().state_dict(), "a state dict is no network: build the module, call its load_state_dict"),
    "class": (nn.Flatten, r"Flatten is a class, not a network: pass a torch.nn.Module, such as Flatten\(\)"),
    "function": (torch.sin, "the network is of type builtin_function_or_method: pass a torch.nn.Module"),
    "half": (half_of_a_layer(), r"3.weight of the network is float16: convert it first, with network.float\(\)"),
    "meta": (nn.Linear(2, 2, device="meta"), "weight of the network has no values .meta device.: load its weights"),
    "lazy": (nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "1.weight of the network has no shape yet: call"),
    "classes": (small(outputs=4), "the network has 4 outputs, but the data set has 3 classes"),
    "one output": (small(outputs=1), "the network has 1 output, but"),
    "softmax": (nn.Sequential(small(), nn.Softmax(1)), "probabilities: leave out the softmax at its end"),
    "shape": (nn.Conv2d(3, 3, 1), r"returns the shape \(3, 3, 16, 16\) for 3 pictures, not \(3, 3\)"),
    "dictionary": (Function(lambda found, _: {"logits": found}, small()), "the network returns dict, not a tensor"),
    "NaN": (Function(lambda found, _: found * np.nan, small()), "infinite values or NaN: check its weights"),
    "double": (Function(lambda found, _: found.double(), small()), "the network returns float64, not float32"),
    "dropout": (
        Function(lambda found, _: functional.dropout(found), small()),
        r"random in evaluation mode, for example by functional.dropout\(x\)",
    ),
    "batch": (
        small(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False))),
        "depends on the other pictures of the batch, for example by a batch norm without running statistics",
    ),
    "channels": (
        small(nn.Conv2d(3, 8, 3))[1:],
        r"the network does not accept pictures of the shape \(3, 3, 16, 16\) .*; check size and colour",
    ),
}


@pytest.mark.parametrize(("network", "message"), NOT_CLASSIFIERS.values(), ids=NOT_CLASSIFIERS)
def test_what_is_no_classifier_of_the_pictures_is_refused_in_one_line(
    export: Export, network: Any, message: str
) -> None:
    with pytest.raises(ExportError, match=message) as raised:
        export(network)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": (123.7, 116.3, 103.5)}, "mean must be from 0 to 1, .* divide values for pixels from 0 to 255 by 255"),
        ({"std": (58, 57, 57)}, "std must be from 0.001 to 10"),
        ({"std": (0.2, 0, 0.2)}, "std must be from 0.001 to 10"),
        ({"mean": float("nan")}, "mean must be from 0 to 1"),
        ({"std": "half"}, "std must be a number or one number for each channel"),
        ({"mean": (0.5, 0.5)}, "mean has 2 values, but the pictures have 3 channels"),
        ({"mean": 0, "std": 1, "colour": "grey"}, r"not accept pictures of the shape \(3, 1, 16, 16\)"),
        ({"size": 20}, r"not accept pictures of the shape \(3, 3, 20, 20\)"),
        ({"size": (16, 0)}, r"size must be a number of pixels from 1 to 4096, or \(height, width\), not \(16, 0\)"),
        ({"filter": "cubic"}, "filter must be one of bilinear, bicubic, lanczos, box, hamming, not 'cubic'"),
        ({"classes": ("red", "green", "bleu")}, "classes are not those of the data set .*: 'bleu' is only in one"),
        ({"max_drop": 1.0}, "no effect without quantize=True: max_drop"),
        ({"calibrate": "yes"}, "calibrate must be True or False, not 'yes'"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"seed": "a"}, "seed must be a whole number of at least 0, not 'a'"),
        ({"seed": 1.5}, "seed must be a whole number of at least 0, not 1.5"),
        ({"seed": None}, "seed must be a whole number of at least 0, not None"),
        ({"classes": [0, 1, 2]}, r"classes must be a list of names, in the order of the outputs, not \[0, 1, 2\]"),
        ({"classes": "red"}, "classes must be a list of names, .*, not 'red'"),
        ({"classes": 3}, "classes must be a list of names, .*, not 3"),
        ({"columns": "label"}, "columns must be .*, not 'label'"),
        ({"columns": ("label",)}, r"columns must be .*, not \('label',\)"),
        ({"group": 3}, "group must be a regular expression with parentheses, .*, not 3"),
    ],
)
def test_what_is_not_accepted_is_refused_in_one_line(export: Export, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message) as raised:
        export(small(), **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (
            lambda found, pictures: found if pictures.sum() > 0 else -found,
            "a condition in its code depends on the pict",
        ),
        (lambda found, _: found + torch.special.bessel_j0(found), "No ONNX function found for .*bessel_j0"),
    ],
    ids=["condition", "operator"],
)
def test_a_network_that_has_no_graph_is_refused_with_the_reason(
    export: Export, tmp_path: Path, function: Callable[[Any, Tensor], Any], reason: str
) -> None:
    with pytest.raises(GraphError, match=f"PyTorch cannot export this network: {reason}") as raised:
        export(Function(function, small()))
    assert "\n" not in str(raised.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_folders_of_others_are_left_alone(export: Export, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").touch()
    with pytest.raises(ExportError, match="has a run of cnn-train: name another folder for this network"):
        export(small(), tmp_path)
    with pytest.raises(DataError, match=r"lies in the data set .*: name another folder"):
        export(small(), photos / "out")


def test_a_split_without_a_readable_picture_is_named_with_its_own_reason(
    export: Export, photos: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    for number, split in enumerate(("train", "val", "test")):
        for name in ("blue", "green", "red"):
            content = (photos / name / f"{number}.jpg").read_bytes()
            (data / split / name).mkdir(parents=True)
            (data / split / name / "0.jpg").write_bytes(b"no picture" if split == "test" else content)
    (data / "val" / "blue" / "0.jpg").write_bytes(b"")
    with pytest.raises(ExportError) as raised:
        export(small(), data=data)
    assert str(raised.value).startswith(f"{data}: no picture of the test split can be read: not a picture (")
