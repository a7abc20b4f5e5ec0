"""The table of benchmarks/train.py: trainings and their targets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A row of the table: a training and its target.

    Attributes:
        data: The name of a data set. If cnn-train cannot find it by name, ``--data`` names its folder.
        model: The ``--model`` of cnn-train.
        options: Further options of cnn-train.
        target: Mean test accuracy to reach, 0 to 1; 0 for a row that others are compared with.
        budget: Largest median time in seconds.
        device: ``cpu`` or ``cuda``.
        per_class: Training pictures per class that are drawn from a folder; None for all pictures of the data set.
        teacher: The row that trains the teacher, on the same pictures and with the same seed, if there is one. Its time
            does not count.
    """

    data: str
    model: str
    options: str
    target: float
    budget: float
    device: str = "cpu"
    per_class: int | None = None
    teacher: str = ""

    @property
    def clock(self) -> str:
        """The key of the run's report whose time counts."""
        return "seconds_with_preparation" if self.device == "cpu" else "seconds"


ROWS = {
    "digits-nano": Row("digits", "nano", "--epochs 8", 0.90, 10),
    "fashion-mnist-nano-90s": Row("fashion-mnist", "nano", "", 0.931, 90),
    "fashion-mnist-small-4min": Row("fashion-mnist", "small", "", 0.940, 240),
    "fashion-mnist-small-10min": Row("fashion-mnist", "small", "--epochs 36", 0.947, 600),
    "fashion-mnist-base-1h": Row("fashion-mnist", "base", "--epochs 75 --augment flip,crop,cutout", 0.952, 3600),
    "cifar10-large-15min": Row("cifar10", "large", "--epochs 25", 0.898, 900),
    "cifar10-large-1h": Row("cifar10", "large", "--epochs 60", 0.915, 3600),
    "cifar10-large-gpu-5s": Row("cifar10", "large", "--epochs 25", 0.895, 5, "cuda"),
    "cifar10-large-gpu-1min": Row("cifar10", "large", "--epochs 100", 0.920, 60, "cuda"),
    "fashion-mnist-base-gpu-2min": Row(
        "fashion-mnist", "base", "--epochs 75 --augment flip,crop,cutout", 0.955, 120, "cuda"
    ),
    "ants-bees-scratch": Row("ants-bees", "small", "", 0.0, 180, per_class=200),
    "ants-bees-frozen": Row("ants-bees", "lite0", "--pretrained --epochs 1", 0.95, 180, per_class=200),
    "ants-bees-pretrained": Row("ants-bees", "lite0", "--pretrained", 0.95, 180, per_class=200),
    **{f"cifar10-{n}-scratch": Row("cifar10", "small", "", 0.0, 600, per_class=n) for n in (20, 100, 500)},
    **{
        f"cifar10-{n}-frozen": Row("cifar10", "lite0", "--pretrained --epochs 1 --size 192", goal, 600, per_class=n)
        for n, goal in ((20, 0.65), (100, 0.75), (500, 0.80))
    },
    **{
        f"cifar10-{n}-pretrained": Row("cifar10", "lite0", "--pretrained --size 192", goal, budget, per_class=n)
        for n, goal, budget in ((20, 0.75, 600), (100, 0.85, 1200), (500, 0.0, 1200))
    },
    **{
        f"cifar10-{n}-{model}-{kind}": Row(
            "cifar10", model, "", 0.0, 3600, per_class=n, teacher=f"cifar10-{n}-pretrained" if kind == "taught" else ""
        )
        for n in (20, 100)
        for model, kind in (("nano", "alone"), ("nano", "taught"), ("small", "taught"))
    },
}
