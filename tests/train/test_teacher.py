"""Distillation: the same view for teacher and student, a teacher that is heard, and one that cannot be exchanged."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from cnn_infer.spec import Spec
from cnn_train import (
    AUGMENTATIONS,
    Dataset,
    Epoch,
    Run,
    RunError,
    TrainingInterruptedError,
    open_source,
    prepare,
    train,
)
from cnn_train.network.logits import logits_of, to_input
from cnn_train.recipe.augment import augment
from cnn_train.recipe.distillation import TEMPERATURE, Teacher, distillation_loss
from cnn_train.recipe.fit import Fit
from safetensors.torch import load_file, save_file

SHORT = {"model": "nano", "device": "cpu", "precision": "fp32"}
CPU = torch.device("cpu")


class CornersOf(torch.nn.Module):
    """Three pixels of a normalised picture as its logits."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.stack([pictures[:, 0, 0, 0], pictures[:, 1, 5, 9], pictures[:, 2, 15, 3]], dim=1)


def test_the_teacher_sees_the_same_view_in_its_own_normalisation_and_class_order() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
    student = Spec(("a", "b", "c"), 16, 16, "rgb", "crop", "bilinear", zero_point=100, scale=1 / 60)
    own = dataclasses.replace(student, zero_point=127, scale=1 / 128, temperature=2.5, classes=("c", "a", "b"))
    teacher = Teacher(CornersOf(), own, pictures, torch.tensor([1, 2, 0]), "")
    positions = np.array([7, 3, 30])
    found = teacher.logits(positions, student, AUGMENTATIONS, torch.Generator().manual_seed(5), torch.float32)
    view = augment(to_input(pictures[positions], student, CPU), AUGMENTATIONS, torch.Generator().manual_seed(5))
    pixels = view / student.scale + student.zero_point
    expected = CornersOf()((pixels - own.zero_point) * own.scale)[:, [1, 2, 0]] / 2.5
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_each_batch_of_an_epoch_is_the_same_view_for_both(finished: Run, digits: Dataset) -> None:
    some = dataclasses.replace(digits.train, images=digits.train.images[:90], labels=digits.train.labels[:90])
    student, taught_by = finished.network(), finished.network()
    teacher = Teacher(taught_by, finished.spec, some.images, torch.arange(10), "")
    seen: dict[torch.nn.Module, list[torch.Tensor]] = {student: [], taught_by: []}
    for network, pictures in seen.items():
        network.register_forward_pre_hook(lambda _, given, pictures=pictures: pictures.append(given[0]))
    config = dataclasses.replace(finished.config, augment=AUGMENTATIONS, batch_size=32)
    Fit(student, some, digits.val, finished.spec, config, torch.float32, teacher).epoch(1)
    assert len(seen[taught_by]) == 3
    for ours, theirs in zip(*seen.values(), strict=False):  # the student sees the validation pictures as well
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_the_loss_is_the_divergence_at_the_temperature_times_its_square() -> None:
    student, teacher = torch.tensor([[1.0, -1.0]]), torch.tensor([[0.0, 3.0]])
    ours, theirs = (1 / (1 + math.exp(float(row[0, 1] - row[0, 0]) / TEMPERATURE)) for row in (student, teacher))
    divergence = theirs * math.log(theirs / ours) + (1 - theirs) * math.log((1 - theirs) / (1 - ours))
    assert distillation_loss(student, teacher).item() == pytest.approx(TEMPERATURE**2 * divergence, rel=1e-5)
    assert distillation_loss(teacher, teacher).item() == pytest.approx(0, abs=1e-6)


def test_a_student_learns_what_only_the_teacher_knows(photos: Path, tmp_path: Path) -> None:
    """The student's training labels have nothing to do with the pictures: only the teacher tells the colours apart."""
    options = {**SHORT, "cache": str(tmp_path / "cache"), "augment": "none", "batch_size": 4, "epochs": 8}
    teacher = train(photos, out=tmp_path / "teacher", size=16, **options)
    rows = ["file_name,label,split"]
    for number in range(12):
        split, turn = ("train", number % 3) if number < 9 else ("val" if number < 11 else "test", 0)
        names = ("blue", "green", "red")
        rows += [f"{names[at]}/{number}.jpg,{names[(at + turn) % 3]},{split}" for at in range(3)]
    (photos / "labels.csv").write_text("\n".join(rows))
    run = train(photos / "labels.csv", out=tmp_path / "run", size=12, teacher=str(teacher.path), **options)
    data = prepare(open_source(str(photos)), size=12, cache=tmp_path / "cache")
    logits = logits_of(run.network(), data.train.images, run.spec, CPU)
    assert np.mean(logits.argmax(1) == data.train.labels) > 0.9
    assert run.report["teacher"]["run"] == str(teacher.path)
    assert any("if it has seen these test pictures, the test accuracy is too high" in w for w in run.report["warnings"])


def test_an_interrupted_distillation_continues_bit_for_bit_with_the_same_teacher_only(
    finished: Run, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher takes pictures of another size. It may move, but not change."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the load of the machine must not change the number of threads
    teacher = Path(shutil.copytree(finished.path, tmp_path / "teacher"))
    options = {**SHORT, "epochs": 2, "size": 12, "teacher": str(teacher)}
    whole = train("digits", out=tmp_path / "whole", **options)
    assert not any("teacher" in warning for warning in whole.report["warnings"])

    def stop(_: Sequence[Epoch]) -> None:
        raise KeyboardInterrupt

    part = tmp_path / "part"
    with pytest.raises(TrainingInterruptedError):
        train("digits", out=part, on_epoch=stop, **options)
    moved = teacher.rename(tmp_path / "moved")
    line = refused("--resume", "--out", str(part))
    assert f"--teacher: no such run folder: {teacher}" in line
    weights = load_file(moved / "model.safetensors")
    changed = Path(shutil.copytree(moved, tmp_path / "changed"))
    save_file({name: value + 1 for name, value in weights.items()}, changed / "model.safetensors")
    line = refused("--resume", "--out", str(part), "--teacher", str(changed))
    assert f"the teacher {changed} has other weights than when the training in {part} started" in line
    resumed = train(out=part, resume=True, teacher=os.path.relpath(moved))
    assert resumed.config.teacher == str(moved)
    assert (part / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()
    # without the teacher the weights are others, and none can be added later
    alone = train("digits", out=tmp_path / "alone", **{**options, "teacher": None})
    assert (alone.path / "model.safetensors").read_bytes() != (whole.path / "model.safetensors").read_bytes()
    (alone.path / "report.json").unlink()
    with pytest.raises(RunError, match="leave out teacher"):
        train(out=alone.path, resume=True, teacher=str(moved))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("digits", "--teacher", "none"), "--teacher: no such run folder: none"),
        (("digits", "--teacher", "photos"), "--teacher: photos is not a run folder: it has no model.safetensors"),
        (("photos", "--teacher", "run"), "the teacher run has other classes than the data: it lacks 'blue'"),
        (("digits", "--teacher", "run", "--out", "photos/../run", "--overwrite"), "is the folder of the teacher: pass"),
        (
            ("digits", "--teacher", "run", "--fold", "1/3"),
            "was not trained with --fold 1/3, so it has seen test pictures",
        ),
        (
            ("photos", "--teacher", "run", "--pretrained", "--model", "lite0", "--epochs", "1"),
            "no effect with --pretrained --epochs 1, which fits the last layer to the labels: --teacher",
        ),
        (("digits", "--teacher", "damaged"), "model.safetensors is damaged or of another network"),
        (("digits", "--teacher", "spec"), "spec.json is damaged"),
    ],
)
def test_teachers_that_cannot_teach(
    refused: Callable[..., str], photos: Path, run: Path, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    for name, file in (("damaged", "model.safetensors"), ("spec", "spec.json")):
        (Path(shutil.copytree(run, tmp_path / name)) / file).write_text("{}")
    before = json.loads((run / "report.json").read_text())
    assert reason in refused(*arguments)
    assert json.loads((run / "report.json").read_text()) == before
    assert not (tmp_path / "runs").exists()
