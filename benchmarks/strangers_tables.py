"""The tables of docs/strangers.md, from the result of strangers.py. ``benchmarks/tables.py`` writes them."""

from __future__ import annotations

from figures import NAMES, result, table


def _network(model: str) -> str:
    """The name of a network in the result of strangers.py, such as ``CIFAR-10, JPEG files: `nano`, int8``."""
    folder, file = model.split("/")
    data, preset = folder.split("-0-")[0].rsplit("-", 1)
    return f"{NAMES[data]}: `{preset}`, {'int8' if 'int8' in file else 'fp32'}"


def strangers() -> str:
    """How well the output ``strangeness`` tells strangers from the test pictures, and what it costs."""
    rows = []
    for row in result("strangers")["rows"]:
        found, file = row["scores"]["first and middle"], row["file"]
        sets = {name: one for name, one in found["strangers"].items() if name not in NAMES}
        sets["the other data set"] = next(one for name, one in found["strangers"].items() if name in NAMES)
        cells = [f"{one['auroc']:.3f}, {one['caught']:.0%}" for one in sets.values()]
        low, high = file["interval"]
        alarms = f"{file['false_alarm_rate']:.2%} ({low:.2%} to {high:.2%})"
        ratio = " and ".join(f"{one['ratio']:.2f}" for one in file["us_per_picture_by_batch"].values())
        rows.append([_network(row["model"]), *cells, alarms, f"{file['bytes'] / 1024:.0f} KiB", ratio])
    return table(["network", *sets, "false alarms", "size", "time at batch 1 and 32"], rows)


def stranger_scores() -> str:
    """Each score: means over the sets of strangers and the fp32 files of a data set."""
    rows = [row for row in result("strangers")["rows"] if "int8" not in row["model"]]
    lines = []
    for score in rows[0]["scores"]:
        cells = []
        for data in NAMES:
            of = [row["scores"][score]["strangers"].values() for row in rows if row["model"].startswith(data)]
            every = [one for sets in of for one in sets]
            cells += [f"{sum(one[key] for one in every) / len(every):.3f}" for key in ("auroc", "accepted_at_95")]
            cells.append(f"{sum(one['caught'] for one in every) / len(every):.0%}")
        lines.append([f"`{score}`", *cells])
    head = [f"{name.split(',')[0]}: {what}" for name in NAMES.values() for what in ("AUROC", "FPR at 95%", "caught")]
    return table(["score", *head], lines)


STRANGERS = {"strangers": strangers, "stranger_scores": stranger_scores}
