"""Do processors round int8 additions as ``cnn_export.int8.rounding`` says? QEMU emulates them.

    python benchmarks/roundings.py --output roundings.json

Additions (``QLinearAdd``) with random scales and zero points run on each processor, for all 65,536 pairs of levels, and
are compared with each form of ``cnn_export.int8.rounding.forms``. Then they run again with the wider ranges that export
chooses for ``--for any``: the levels must be the same on all processors.

Two operators have one form only and run too: the global average (``QLinearGlobalAveragePool``) for all sums of 49
pixels and both layouts, also with sums in the middle between two levels, and the concatenation (``QLinearConcat``) for
all levels.

QEMU must be installed (on Debian and Ubuntu: apt install qemu-user-static); benchmarks/emulation.py builds the
environment for 64-bit Arm. The exit code is 1 if a processor fits no form, or if levels differ that must not.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import emulation
import numpy as np
import onnx
from cnn_export.int8.rounding import Unsigned, agreeing, disagreements, forms
from emulation import PROCESSORS, EmulationError
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from processors import HERE, python_on
from report import conditions, parser, run_script, write

PIXELS = 49

RUN = """
import sys
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
np.savez(sys.argv[3], **dict(zip(names, session.run(names, dict(np.load(sys.argv[2]))))))
"""

Trio = tuple[Unsigned, Unsigned, Unsigned]


def drawn(count: int, random: np.random.Generator) -> list[Trio]:
    """Random levels of two inputs and an output, as those of residual additions; each third has a ReLU.

    Sums of the first one lie in the middle between two levels.
    """
    found = [(Unsigned(np.float32(0.5), 103), Unsigned(np.float32(0.25), 97), Unsigned(np.float32(1), 40))]
    for number in range(1, count):
        steps = random.uniform(0.01, 0.05, 2)
        total = steps.sum() * random.uniform(0.4, 1)
        zeros = random.integers(0, 140, 3) * (1, 1, number % 3 > 0)
        inputs = [Unsigned(np.float32(step), int(zero)) for step, zero in zip(steps, zeros[:2], strict=True)]
        found.append((inputs[0], inputs[1], Unsigned(np.float32(total), int(zeros[2]))))
    return found


class Operators:
    """A model whose nodes are int8 operators, each with an output of its own."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self.inputs: dict[str, np.ndarray] = {}

    def levels(self, tensor: Unsigned) -> list[str]:
        """Store a scale and a zero point, and return their names."""
        number = len(self._constants)
        values = np.asarray(tensor.scale), np.array(tensor.zero_point, np.uint8)
        names = [f"scale_{number}", f"zero_{number}"]
        self._constants += [numpy_helper.from_array(value, name) for value, name in zip(values, names, strict=True)]
        return names

    def node(self, operator: str, output: str, inputs: list[str], **attributes: int) -> None:
        """Add a node of ONNX Runtime's own domain."""
        self._nodes.append(helper.make_node(operator, inputs, [output], domain="com.microsoft", **attributes))

    def add_additions(self, trios: list[Trio], title: str) -> None:
        """All pairs of levels through each addition."""
        pairs = np.indices((256, 256), np.uint8).reshape(2, -1)
        self.inputs |= {"a": pairs[0], "b": pairs[1]}
        for number, (first, second, result) in enumerate(trios):
            inputs = ["a", *self.levels(first), "b", *self.levels(second), *self.levels(result)]
            self.node("QLinearAdd", f"{title}_{number}", inputs)

    def add_averages(self) -> dict[str, np.ndarray]:
        """All sums of pixels through the global average, and the levels that they must give, by output."""
        sums = np.arange(255 * PIXELS + 1)
        pixels = ((sums[None] + np.arange(PIXELS)[:, None]) // PIXELS).astype(np.uint8)
        self.inputs["last"] = pixels.reshape(1, 7, 7, -1)
        self.inputs["first"] = np.ascontiguousarray(self.inputs["last"].transpose(0, 3, 1, 2))
        expected = {}
        for number, (factor, zeros) in enumerate([(0.5, (0, 0)), (1 / 32, (100, 50)), (0.0213, (30, 3))]):
            source, result = Unsigned(np.float32(factor * PIXELS), zeros[0]), Unsigned(np.float32(1), zeros[1])
            steps = (sums - zeros[0] * PIXELS).astype(np.float32) * (source.scale / np.float32(PIXELS))
            levels = np.clip(np.rint(steps) + zeros[1], 0, 255).astype(np.uint8)
            for last, name in enumerate(("first", "last")):
                inputs = [name, *self.levels(source), *self.levels(result)]
                expected[f"average_{name}_{number}"] = levels
                self.node("QLinearGlobalAveragePool", f"average_{name}_{number}", inputs, channels_last=last)
        return expected

    def add_concatenation(self) -> dict[str, np.ndarray]:
        """All levels through a concatenation with itself, with another scale, and the levels that it must give."""
        source, result = Unsigned(np.float32(0.0371), 30), Unsigned(np.float32(0.0742), 17)
        self.inputs["c"] = np.arange(256, dtype=np.uint8)
        inputs = [*self.levels(result), "c", *self.levels(source), "c", *self.levels(source)]
        self.node("QLinearConcat", "concatenation", inputs, axis=0)
        values = (np.arange(256) - source.zero_point).astype(np.float32) * source.scale
        levels = np.clip(np.rint(values / result.scale) + result.zero_point, 0, 255).astype(np.uint8)
        return {"concatenation": np.tile(levels, 2)}

    def model(self) -> ModelProto:
        """The model of all nodes."""
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.UINT8, one.shape) for name, one in self.inputs.items()
        ]
        outputs = [helper.make_tensor_value_info(node.output[0], TensorProto.UINT8, None) for node in self._nodes]
        graph = helper.make_graph(self._nodes, "operators", inputs, outputs, self._constants)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def outputs_on(name: str, folder: Path, cache: Path) -> dict[str, np.ndarray]:
    """What the model in a folder computes on a processor, by output."""
    python_on(name, cache, "-c", RUN, folder / "model.onnx", folder / "inputs.npz", folder / f"{name}.npz")
    with np.load(folder / f"{name}.npz") as arrays:
        return dict(arrays)


def main() -> int:
    """Print a line for each processor; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("--processors", nargs="*", choices=PROCESSORS, default=list(PROCESSORS), metavar="NAME")
    arguments.add_argument("--additions", type=int, default=100, help="additions (default: %(default)s)")
    arguments.add_argument("--cache", type=Path, default=emulation.CACHE, help="folder of the emulated environments")
    options = arguments.parse_args()
    try:
        for architecture in sorted({PROCESSORS[name].architecture for name in options.processors}):
            emulation.prepare(architecture, options.cache)
    except EmulationError as error:
        print(f"roundings.py: {error}", file=sys.stderr)
        return 2
    trios = drawn(options.additions, np.random.default_rng(0))
    wider = [(first, second, agreeing(first, second, result) or result) for first, second, result in trios]
    operators = Operators()
    operators.add_additions(trios, "drawn")
    operators.add_additions(wider, "wider")
    expected = operators.add_averages() | operators.add_concatenation()
    a, b = operators.inputs["a"], operators.inputs["b"]
    for number, trio in enumerate(wider):
        expected[f"wider_{number}"] = next(levels for _, levels in forms(*trio, a, b))
    by_form = [dict(forms(*trio, a, b)) for trio in trios]
    rows = []
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        onnx.save(operators.model(), folder / "model.onnx")
        np.savez(folder / "inputs.npz", **operators.inputs)
        for name in (HERE, *options.processors):
            found = outputs_on(name, folder, options.cache)
            apart = {
                form: sum(int((found[f"drawn_{number}"] != one[form]).sum()) for number, one in enumerate(by_form))
                for form in by_form[0]
            }
            others = [output for output, levels in expected.items() if (found[output].ravel() != levels).any()]
            fits = [form for form, count in apart.items() if not count]
            rows.append({"processor": name, "fits": fits, "different_pairs": apart, "unexpected": others})
            print(f"{name:<12} fits {', '.join(fits) or 'NO FORM'}; unexpected outputs: {', '.join(others) or 'none'}")
    given = {"processors": options.processors, "additions": options.additions}
    report = {
        **conditions("roundings.py", ("cnn-export", "onnxruntime", "numpy"), **given),
        "additions": len(trios),
        "additions_that_differ": sum(disagreements(*trio) > 0 for trio in trios),
        "additions_that_differ_with_wider_ranges": sum(disagreements(*trio) > 0 for trio in wider),
        "widest_ratio": max(float(new[2].scale / old[2].scale) for new, old in zip(wider, trios, strict=True)),
        "rows": rows,
    }
    print({key: value for key, value in report.items() if key.startswith(("additions", "widest"))})
    write(options.output, report)
    return 0 if all(row["fits"] and not row["unexpected"] for row in rows) else 1


if __name__ == "__main__":
    run_script(main)
