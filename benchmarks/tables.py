"""Write the tables of measured figures into the README and the pages, from benchmarks/results/*.json.

    python benchmarks/tables.py           write every table between its markers
    python benchmarks/tables.py --check   fail where a table is not the one that the results give

A table stands between the lines ``<!-- table: NAME -->`` and ``<!-- end of table -->``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from figures import NAMES, RESULTS, result, table
from scale_tables import SCALE
from strangers_tables import STRANGERS

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/measuring.md",
    "docs/int8.md",
    "docs/fp16.md",
    "docs/devices.md",
    "docs/strangers.md",
    "docs/nodes.md",
    "docs/scale.md",
)
MARKED = re.compile(r"(<!-- table: (\S+) -->\n)[^<]*(<!-- end of table -->)")
CASES = ("1 thread, batch 1", "1 thread, batch 64", "all cores, batch 256")
TRAININGS = (
    "fashion_mnist_nano_90s",
    "fashion_mnist_small_4min",
    "fashion_mnist_small_10min",
    "fashion_mnist_base_1h",
    "cifar10_large_15min",
    "cifar10_large_1h",
)


def commands() -> str:
    """Whole commands on the CIFAR-10 test pictures: time and memory of ours and of what else there is."""
    found = result("folder_cifar10_nano")
    programs = ("model.int8", "model", "pytorch", "ultralytics")
    one, many = found["one picture"], found["all pictures"]
    return table(
        ["", "`cnn-infer`, int8", "`cnn-infer`, fp32", "PyTorch script, same network", "Ultralytics, `yolo11n-cls`"],
        [
            ["1 picture", *(_seconds(one[name]["seconds"]) for name in programs)],
            ["10,000 pictures", *(f"{many[name]['seconds']:.1f} s" for name in programs)],
            ["peak memory, 10,000 pictures", *(f"{many[name]['peak_mb']:.0f} MB" for name in programs)],
        ],
    )


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"


def photographs() -> str:
    """Pictures a second on photographs, beside what decoding and the model alone allow."""
    rows = []
    for name, network in (("folder_photos64", "64x64, `nano`"), ("folder_photos224", "224x224, `mobilenet_v3_small`")):
        found = result(name)["all pictures"]
        rates = [found["model"]["pictures_per_second"], found["model alone"]["ceiling"]]
        rates += [found[other]["pictures_per_second"] for other in ("pytorch", "ultralytics")]
        rows.append([network, *(f"{rate:,.0f}" for rate in rates)])
    return table(
        [
            "pictures a second",
            "`cnn-infer`, fp32",
            "upper limit",
            "DataLoader and PyTorch, same network",
            "Ultralytics",
        ],
        rows,
    )


def _presets() -> list[dict[str, Any]]:
    return [row for row in result("presets")["rows"] if row["data"] in NAMES]


def _title(row: dict[str, Any]) -> str:
    return f"{NAMES[row['data']]}: `{row['run'].split('-')[-2]}`, {row['parameters'] / 1000:.0f}k"


def presets() -> str:
    """Every preset: accuracy of fp32 and int8 on the whole test split, and how long int8 takes for a picture."""
    timed = {(row["run"], row["case"]): row for row in result("int8")["rows"]}
    rows = []
    for row in _presets():
        cases = [timed[row["run"], case] for case in CASES]
        times = [f"{case['int8']['us_per_picture']:.0f} us ({case['fp32']['times_int8'][0]:.2f}x)" for case in cases]
        rows.append([_title(row), f"{row['accuracy_fp32']:.2%}", f"{row['accuracy_int8']:.2%}", *times])
    return table(["network, parameters", "fp32", "int8", *CASES], rows)


def openvino() -> str:
    """OpenVINO's time for a picture as a multiple of ours with the int8 file."""
    timed = {(row["run"], row["case"]): row for row in result("int8")["rows"]}
    rows = []
    for row in _presets():
        cells = [
            f"{timed[row['run'], case][f'OpenVINO {file}']['times_int8'][0]:.2f}"
            for file in ("int8", "fp32")
            for case in CASES
        ]
        rows.append([_title(row), *cells])
    return table(["network, parameters", *(f"{file}, {case}" for file in ("int8", "fp32") for case in CASES)], rows)


def training() -> str:
    """Accuracy for training time."""
    rows = []
    for name in TRAININGS:
        found = result(f"train_{name}")
        accuracy, seeds = found["accuracy"], len(found["runs"])
        spread = "1 seed" if seeds == 1 else f"{seeds} seeds, standard deviation {100 * accuracy['deviation']:.2f}"
        parameters = found["parameters"]
        size = f"{parameters / 1e6:.2f}M" if parameters >= 1e6 else f"{parameters / 1000:.0f}k"
        options = f"`{found['options']}`" if found["options"] else "default"
        rows.append(
            [
                NAMES[found["data"]],
                f"`{found['model']}`, {size}",
                options,
                f"{accuracy['mean']:.2%} ({spread})",
                f"{found['seconds']['median']:,.0f} s",
                f"{found['plain_epochs']['median']:.2g}",
            ]
        )
    return table(["data", "network, parameters", "options", "test accuracy", "time", "epochs of the plain net"], rows)


def memory() -> str:
    """Memory of a training and of a folder run against the number of pictures."""
    rows = [
        [f"`cnn-train`, {row['pictures']:,} pictures of 32x32", f"{row['anonymous_mb']:,.0f} MB"]
        for row in result("memory")["rows"]
    ]
    rows += [
        [f"`cnn-infer`, {row['files']:,} files, {row['in']}", f"{row['peak_mb']:,.0f} MB"]
        for row in result("folder_memory")["rows"]
    ]
    return table(["command", "memory"], rows)


def processors() -> str:
    """How many test pictures have the same integers on emulated processors as on this machine."""
    found = [
        json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("processors_*_epyc_zen5.json"))
    ]
    titles = {name: entry["title"] for name, entry in found[0]["processors"].items() if "title" in entry}
    cells = {(row["run"], row["for"], row["processor"]): row for one in found for row in one["rows"]}
    rows = []
    for run, target in sorted({(run, target) for run, target, _ in cells}):
        data, model = run.rsplit("-", 2)[:2]
        equal = [_equality(cells[run, target, name]) for name in titles]
        rows.append([f"{NAMES[data]}: `{model}`", f"`{target}`", *equal])
    return table(["network", "`--for`", *titles.values()], rows)


def _equality(row: dict[str, Any]) -> str:
    text = f"{row['integers_equal'] / row['pictures']:.0%}, {row['flips']} flips"
    prediction = row["prediction"]
    return f"{text} ({prediction['flips_predicted']} predicted)" if prediction["saturated"] else text


def targets() -> str:
    """Files for any processor beside those for VNNI only: accuracy, size and time on a processor with VNNI."""
    rows = result("presets_any_vnni")["rows"]
    lines = []
    for every, vnni in zip(rows[::2], rows[1::2], strict=True):
        data, model = every["run"].rsplit("-", 3)[:2]
        times = [f"{vnni['time_of_first'][batch][0]:.3f}" for batch in ("1", "64")]
        accuracies = [
            f"{value:.2%}" for value in (every["accuracy_fp32"], every["accuracy_int8"], vnni["accuracy_int8"])
        ]
        size = every["bytes"][1] / vnni["bytes"][1]
        lines.append([f"{NAMES.get(data, 'digits')}: `{model}`", *accuracies, f"{size:.3f}", *times])
    return table(["network", "fp32", "`any`", "`vnni`", "size", "time, batch 1", "time, batch 64"], lines)


def half() -> str:
    """fp16 files: size, and what they cost on the test split."""
    rows = []
    for row in result("half")["rows"]:
        data, model = row["run"].rsplit("-", 3)[:2]
        found = row["half"]
        rows.append(
            [
                f"{NAMES.get(data, 'digits')}: `{model}`",
                *(f"{size / 1024:,.0f} KiB" for size in (row["bytes"], found["bytes"])),
                f"{found['accuracy_fp32']:.2%}, {found['accuracy_fp16']:.2%}",
                f"{found['flips']:,} of {found['images']:,}",
                *(f"{value:.4f}" for value in (found["logits"]["relative"], found["tolerance"])),
                f"{found['roundings']}",
            ]
        )
    head = ["network", "fp32 file", "fp16 file", "accuracy fp32, fp16", "classes that change"]
    return table([*head, "largest difference of a logit", "tolerance", "`n`"], rows)


def elastic() -> str:
    """Test accuracy of a training on one process, on two nodes, and with a node that is lost and joins again."""
    found = result("elastic")
    cases = found["mean_accuracy"]
    rows = []
    for case, mean in cases.items():
        each = [f"{row['accuracy']:.2%}" for row in found["rows"] if row["case"] == case]
        rows.append([case, *each, f"{mean:.2%}"])
    seeds = [f"seed {row['seed']}" for row in found["rows"] if row["case"] == next(iter(cases))]
    return table(["test accuracy", *seeds, "mean"], rows)


def devices() -> str:
    """OpenVINO beside the CPU provider: classes, probabilities, and its speed as a multiple of that of the CPU."""
    rows = []
    for row in result("providers")["rows"]:
        title = f"{row['model'].partition('/')[0].removesuffix('-0-any')}, {row['precision']}"
        found, rounded = row["openvino"], row["openvino_bfloat16"]
        speeds = [_speed(entry) for entry in row["latency"]]
        equal = [f"{each['other_classes']}, {each['largest_difference']:.1g}" for each in (found, rounded)]
        rows.append([title, equal[0], *speeds, equal[1]])
    head = ["model", "other classes, largest difference", *(f"speed, batch {size}" for size in (1, 64, 256))]
    return table([*head, "in bfloat16, if asked for: other classes, largest difference"], rows)


def _speed(entry: dict[str, Any]) -> str:
    """The speed of OpenVINO, or a dash where the machine was so busy that the same work took another time."""
    controls = [entry[f"speed_{name}"]["fastest"] for name in ("cpu_bound", "cpu_there")]
    return f"{entry['speed_openvino']['fastest']:.2f}x" if all(0.9 <= each <= 1.1 for each in controls) else "-"


TABLES: dict[str, Callable[[], str]] = {
    "devices": devices,
    "commands": commands,
    "photographs": photographs,
    "presets": presets,
    "openvino": openvino,
    "training": training,
    "memory": memory,
    "processors": processors,
    "targets": targets,
    "half": half,
    "elastic": elastic,
    **STRANGERS,
    **SCALE,
}


def filled(text: str) -> str:
    """The text of a page with each table as the results give it."""
    return MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n\n{found[3]}", text)


def main() -> None:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 where a table is old")
    options = parser.parse_args()
    old = []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        new = filled(text)
        if new != text:
            old.append(page)
            if not options.check:
                (ROOT / page).write_text(new, encoding="utf-8")
    if old:
        print(f"{'old' if options.check else 'wrote the'} tables: {', '.join(old)}")
    if options.check and old:
        sys.exit(1)


if __name__ == "__main__":
    main()
