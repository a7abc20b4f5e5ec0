"""The tables of docs/scale.md: what a billion pictures cost, from measured rates and assumed prices.

``benchmarks/tables.py`` writes them. Rates come from the result files; what is assumed stands in :data:`ASSUMED`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from cnn_infer.storage.requests import IN_FLIGHT
from figures import RESULTS, result, table

MEASURED_CORES = 2
"""Cores of the machine of all results."""

MILLION, BILLION, CORES = 10**6, 10**9, 1000
TRAINING = 10**8
"""Pictures of the large training."""


class Assumption(NamedTuple):
    """A figure that a reader replaces by their own."""

    value: float
    text: str
    source: str


ASSUMED = {
    "core hour": Assumption(
        0.05, "an hour of a core, in dollars", "EC2 c7a (AMD EPYC, Zen 4) in us-east-1, on demand; a vCPU is a core"
    ),
    "get": Assumption(0.40, "a million GET requests, in dollars", "S3 Standard in us-east-1"),
    "transfer": Assumption(0.09, "a GB of pictures that leaves the region, in dollars", "from S3 to the internet"),
    "list": Assumption(5.0, "a million LIST requests of 1,000 names, in dollars", "S3 Standard in us-east-1"),
    "gets per prefix": Assumption(5500, "GET requests a second and prefix", "S3 performance guidelines"),
    "request": Assumption(1.05, "milliseconds of a core for a GET request", "middle of 0.9 to 1.2 in docs/storage.md"),
    "latency": Assumption(0.1, "seconds until S3 answers a GET request", "S3 performance guidelines: 0.1 to 0.2"),
    "threads": Assumption(1, "cores of an actor", "default of --threads on a cluster"),
    "list delay": Assumption(0.1, "seconds for a LIST request of 1,000 names", "S3 performance guidelines"),
    "photograph": Assumption(70_000, "bytes of a photograph of 500x375", "mean of 125 JPEG files"),
    "thumbnail": Assumption(900, "bytes of a picture of 32x32", "mean of 2,000 JPEG files of CIFAR-10"),
    "row": Assumption(100, "bytes of a row in CSV", "path, label, index, probability"),
    "network": Assumption(25, "Gbit/s of the network of a node", "EC2 c7a.16xlarge"),
    "node": Assumption(64, "cores of a node", "EC2 c7a.16xlarge"),
    "part": Assumption(2000, "pictures of a part", "default of --part-size"),
}

NETWORKS = (
    ("folder_photos224", "model", "photographs, `mobilenet_v3_small` at 224x224", "photograph"),
    ("folder_photos64", "model", "photographs, `nano` at 64x64", "photograph"),
    ("folder_cifar10_nano", "model.int8", "32x32 pictures, `nano`, int8", "thumbnail"),
)
"""Result file, key of the measured run, name, and assumed size of an object."""


def core_rate(name: str, run: str) -> float:
    """Measured pictures a second and core of a whole command, from files to rows."""
    return float(result(name)["all pictures"][run]["pictures_per_second"]) / MEASURED_CORES


def request_ms() -> tuple[float, str]:
    """Milliseconds of a core for a GET request, and the source: measured by storage.py, else assumed."""
    for name, document in measured_documents("storage"):
        if "sources" in document:
            folder, store = (document["sources"][key]["processor_seconds"] for key in ("folder", "no delay"))
            return round((store - folder) / document["pictures"] * 1000, 2), f"measured: {name}"
    return ASSUMED["request"].value, ASSUMED["request"].source


def most_requests() -> float:
    """GET requests a second and core: an actor waits for the answers to those that are in flight."""
    return IN_FLIGHT / ASSUMED["latency"].value / ASSUMED["threads"].value


def stored_rate(name: str, run: str) -> float:
    """Pictures a second and core from S3."""
    return min(1 / (1 / core_rate(name, run) + request_ms()[0] / 1000), most_requests())


def listing_hours() -> float:
    """Hours of a listing of a billion names, one page after the other."""
    return BILLION / 1000 * ASSUMED["list delay"].value / 3600


def assumptions() -> str:
    """What is not measured."""
    milliseconds, source = request_ms()
    known = {**ASSUMED, "request": ASSUMED["request"]._replace(value=milliseconds, source=source)}
    return table(
        ["assumed", "value", "source"], [[text, f"{value:,g}", where] for value, text, where in known.values()]
    )


def inference() -> str:
    """A million and a billion pictures: core hours, cost, time, network and requests."""
    columns = []
    for name, run, _, size in NETWORKS:
        rate = stored_rate(name, run)
        hours = MILLION / (3600 * rate)
        cores = hours * ASSUMED["core hour"].value
        requests = ASSUMED["get"].value + ASSUMED["list"].value / 1000
        transfer = MILLION * ASSUMED[size].value / 1e9 * ASSUMED["transfer"].value
        gets = CORES * rate
        classifying = BILLION / (3600 * gets)
        columns.append(
            {
                "pictures a second and core, files on this machine": f"{core_rate(name, run):,.0f}",
                "pictures a second and core, from S3": f"{rate:,.0f}",
                "core hours, a million": f"{hours:.2f}",
                "$ of cores, a million": f"{cores:.3f}",
                "$ of requests, a million": f"{requests:.3f}",
                "$ in all, a million": f"{cores + requests:.2f}",
                "$ more where the cores are outside of AWS, a million": f"{transfer:.2f}",
                "core hours, a billion": f"{BILLION / MILLION * hours:,.0f}",
                f"hours for a billion, {CORES:,} cores, without listing": f"{classifying:.2f}",
                f"hours for a billion, {CORES:,} cores, one listing": f"{listing_hours() + classifying:.1f}",
                f"network, {CORES:,} cores": f"{gets * ASSUMED[size].value * 8 / 1e9:,.0f} Gbit/s",
                f"requests a second, {CORES:,} cores": f"{gets:,.0f}",
                "prefixes for them": f"{math.ceil(gets / ASSUMED['gets per prefix'].value):,}",
            }
        )
    rows = [[quantity, *(column[quantity] for column in columns)] for quantity in columns[0]]
    return table(["", *(title for _, _, title, _ in NETWORKS)], rows)


def limits() -> str:
    """Where a billion pictures stop to scale."""
    rates = [stored_rate(name, run) for name, run, *_ in NETWORKS]
    listing = BILLION / 1000 * ASSUMED["list"].value / 1e6
    busy = BILLION / (3600 * rates[0]) / listing_hours()
    prefixes = math.ceil(CORES * max(rates) / ASSUMED["gets per prefix"].value)
    latency, node = ASSUMED["latency"].value, ASSUMED["node"].value
    used = max(rate * ASSUMED[size].value for rate, (*_, size) in zip(rates, NETWORKS, strict=True)) * node * 8 / 1e9
    parts, megabytes = BILLION / ASSUMED["part"].value, ASSUMED["part"].value * ASSUMED["row"].value / 1e6
    return table(
        ["limit", "figure", "what to change"],
        [
            [
                "names listed one page after the other, before the first part starts",
                f"{listing_hours():.0f} hours for a billion, ${listing:,.0f}; {busy:,.0f} cores classify photographs "
                "at 224x224 in this time",
                "read the names from the store's inventory; or start a job for each prefix",
            ],
            [
                f"{IN_FLIGHT} requests of an actor in flight",
                f"{IN_FLIGHT / latency:,.0f} pictures a second and actor with {latency:g} seconds a request",
                "one thread for each actor, the default; or nodes that report more CPUs to Ray than they have "
                "(`ray start --num-cpus`)",
            ],
            [
                "requests a second and prefix; the store answers 503",
                f"up to {prefixes:,} prefixes for {CORES:,} cores",
                "spread the names over prefixes; start with few cores: stores divide busy prefixes within minutes",
            ],
            [
                "price of requests",
                f"${BILLION / 1e6 * ASSUMED['get'].value:,.0f} for a billion, more than the cores",
                "keep thousands of pictures in an archive (zip, tar): one large read in place of thousands",
            ],
            [
                "network of a node",
                f"up to {used:,.1f} of {ASSUMED['network'].value:g} Gbit/s with {node:g} cores",
                "nodes in the region of the store; with a slower network, nodes with fewer cores",
            ],
            [
                "number of parts",
                f"{parts:,.0f} files of rows of {megabytes:g} MB; for each, Ray keeps some kilobytes in memory",
                "`--part-size 20000`",
            ],
            [
                "rows",
                f"{BILLION * ASSUMED['row'].value / 1e9:,.0f} GB of CSV",
                "Parquet, which is compressed and read by column",
            ],
        ],
    )


def measured_documents(start: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The result files whose names start so, with their names."""
    for path in sorted(RESULTS.glob(f"{start}_*.json")):
        yield path.name, json.loads(path.read_text(encoding="utf-8"))


def overheads() -> str:
    """What the cluster and the object storage add."""
    rows = []
    for name, document in measured_documents("cluster"):
        if "cluster" in document:
            share = document["cluster"]["overhead_of_rate"]
            pictures = "photographs at 64x64" if "photos64" in name else "32x32 pictures"
            change = f"{abs(share):.1%} {'more' if share > 0 else 'less'} time per picture"
            rows.append([f"`--ray` on one node against the plain command: {pictures}", change, name])
            start = document["cluster"]["start_seconds"] - document["plain"]["start_seconds"]
            rows.append([f"to connect and to start the actors: {pictures}", f"{start:.1f} seconds", name])
        if "names" in document:
            rate = document["names"] / document["seconds"]
            memory = document["peak_mb"] - document["before_mb"]
            text = f"{rate:,.0f} a second, {memory:,.0f} MB for {document['names']:,}"
            rows.append(["names listed by the driver, local disk", text, name])
    for name, document in measured_documents("storage"):
        if "delay_costs" in document:
            text = "a delay of 50 ms for each request to the object store"
            rows.append([text, f"{document['delay_costs']:.1%} of the rate", name])
    return table(["measured", "value", "file"], rows or [["cluster and object storage", "not measured yet", ""]])


def training() -> str:
    """A training on 100 million pictures at several sizes."""
    each = result("memory")["bytes_per_picture"]
    rows = []
    for side, name in ((32, "folder_cifar10_nano"), (64, "folder_photos64"), (224, "folder_photos224")):
        pixels = 3 * side * side
        decoded = result(name)["all pictures"]["decode"]["pictures_per_second"] / MEASURED_CORES
        rows.append(
            [
                f"{side}x{side}",
                f"{TRAINING / (3600 * decoded):,.1f}",
                f"{TRAINING * pixels / 1e12:.2f} TB",
                f"{TRAINING * each / 1e9:.1f} GB",
                f"{10_000 * pixels * 8 / 1e9:.1f} Gbit/s",
            ]
        )
    head = ["pictures", "core hours of decoding, once", "decoded pictures", "memory of each process"]
    return table([*head, "read for 10,000 pictures a second"], rows)


def training_rate() -> str:
    """The measured rate of a training on CPUs, and what an epoch of 100 million pictures takes then."""
    found = result("memory")["rows"][-1]
    rate = found["training_pictures_per_second"] / MEASURED_CORES
    cells = [f"`nano`, {found['pixels']}, two cores", f"{rate:,.0f}", f"{TRAINING / (3600 * rate):,.1f}"]
    return table(["training", "pictures a second and core", "core hours of an epoch"], [cells])


SCALE = {
    "scale_assumptions": assumptions,
    "scale_inference": inference,
    "scale_overheads": overheads,
    "scale_limits": limits,
    "scale_training": training,
    "scale_training_rate": training_rate,
}
