"""Does cnn-infer --judge give the same answer again and again on one machine?

    python benchmarks/judge.py FP32 INT8 --pictures PICTURES --repeats 10 --output judge.json

Each repeat is a judgement as the command makes it: it opens, verifies and times both files. The result has the file
that ships, and the speed-ups with their 95% intervals, of each repeat. Run it on a quiet machine.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cnn_infer.proof.judge import judge
from report import conditions, parser, run_script, short, write


def main() -> None:
    """Print each judgement; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("fp32", type=Path, help="the fp32 file of an export")
    arguments.add_argument("int8", type=Path, help="the int8 file of the same export")
    arguments.add_argument("--pictures", help="a folder of pictures; default: those inside the model")
    arguments.add_argument("--repeats", type=int, default=10, metavar="N", help="number of judgements; default: 10")
    options = arguments.parse_args()
    rows: list[dict[str, Any]] = []
    for _ in range(options.repeats):
        found = judge([options.fp32, options.int8], [options.pictures] if options.pictures else [])
        ship = short(Path(found.ship)) if found.ship else None
        speedups = {name: asdict(getattr(pair, name)) for pair in found.comparisons for name in ("batch_1", "folder")}
        rows.append({"ship": ship, "rounds": found.rounds, "source": found.source, "speedups": speedups})
        texts = [f"{name} {one['median']:.2f}x ({one['low']:.2f}-{one['high']:.2f})" for name, one in speedups.items()]
        print(f"ship {ship}: {', '.join(texts)}; {found.rounds} rounds", flush=True)
    ships = Counter(str(row["ship"]) for row in rows)
    print(", ".join(f"{name} ships in {count} of {len(rows)}" for name, count in ships.items()))
    pictures = "PICTURES" if options.pictures else None
    command = conditions("judge.py FP32 INT8", ("cnn-infer", "onnxruntime"), pictures=pictures, repeats=options.repeats)
    write(options.output, {**command, "ships": dict(ships), "rows": rows})


if __name__ == "__main__":
    run_script(main)
