"""Parts of a job without a cluster: what a node refuses, sums that do not add up, options that do not go together."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import signal
import socketserver
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from threading import Thread

import click
import numpy as np
import pytest
from cnn_infer import Classifier, InputError
from cnn_infer.cluster.connection import connected, places_for
from cnn_infer.cluster.folder import JobFolder
from cnn_infer.cluster.job import Job
from cnn_infer.cluster.listing import cut
from cnn_infer.cluster.worker import PartClassifier, Work
from cnn_infer.command.cli import command
from cnn_infer.command.on_cluster import check_address
from cnn_infer.errors import ClusterError, TerminatedError
from cnn_infer.evaluation import Evaluation
from cnn_infer.paths.find import Found, find_below
from cnn_infer.system.atomic import write_bytes
from cnn_infer.tally import Tally

pytest.importorskip("ray", reason="needs cnn-infer[ray]")


@pytest.fixture
def work(tmp_path: Path, rgb: Classifier, picture: Callable[..., Path]) -> Work:
    """The work on 30 pictures, of which two cannot be read."""
    random = np.random.default_rng(0)
    for number, colour in enumerate(random.integers(0, 256, (30, 3)).tolist()):
        path = picture(tmp_path / "in" / ("red", "green", "attic")[number % 3] / f"{number}.png", tuple(colour))
        if number in (7, 8):
            path.write_bytes(b"no picture")
    folder = JobFolder(str(tmp_path / "out"), "jsonl")
    return Work(rgb, version("cnn-infer"), None, folder, "jsonl", True, None, 4, 1, False, True)


class Web(socketserver.BaseRequestHandler):
    """Answers as a web server does."""

    def handle(self) -> None:
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.request.recv(1 << 10)


def begun(work: Work, tmp_path: Path) -> Job:
    work.folder.begin()
    with work.folder.lists() as keep:
        listing = cut(find_below([tmp_path / "in"]), 7, keep, lambda _: None)
    job = Job(work.folder, listing, {"the set of files": listing.digest})
    job.begin()
    return job


def problem(work: Work, part: int = 0) -> str:
    return str(PartClassifier(work)({"part": np.array([part])})["problem"][0])


def empty(work: Work) -> Tally:
    return Tally(work.classifier.spec.classes)


def test_parts_add_up_to_the_counts_of_one_run(work: Work, tmp_path: Path) -> None:
    """Also to the pictures that a page shows."""
    job = begun(work, tmp_path)
    assert [problem(work, part) for part in range(job.listing.parts)] == [""] * 5
    report, highlights = job.report(work, empty(work), {})
    whole = Evaluation(work.classifier, page=True)
    list(whole.rows([tmp_path / "in"]))
    wanted = whole.report()
    for name in ("images", "errors", "accuracy", "macro_f1", "confusion", "calibration", "unknown_folders", "drift"):
        assert getattr(report, name) == getattr(wanted, name), name
    assert highlights is not None
    assert whole.highlights is not None
    assert highlights.mistakes == whole.highlights.mistakes
    assert highlights.unsure == whole.highlights.unsure
    assert highlights.unreadable == whole.highlights.unreadable
    assert list(highlights.selections()) == list(whole.highlights.selections())


def test_a_part_that_is_done_is_not_done_again(work: Work, tmp_path: Path) -> None:
    begun(work, tmp_path)
    assert not problem(work)
    rows = tmp_path / "out" / work.folder.rows_name(0)
    before = rows.stat().st_mtime_ns
    assert not problem(work)
    assert rows.stat().st_mtime_ns == before


def test_a_node_of_another_version_or_without_the_files_is_refused(work: Work, tmp_path: Path) -> None:
    begun(work, tmp_path)
    assert "the job was started with 9.9: install one version" in problem(replace(work, version="9.9"))
    assert "a node cannot open the folder /absent" in problem(replace(work, directory="/absent"))
    assert "the list of part 99" in problem(work, 99)
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    (tmp_path / "out" / "_parts").mkdir(parents=True)
    (tmp_path / "elsewhere" / "_parts" / "00000001.json").rename(tmp_path / "out" / "_parts" / "00000001.json")
    (tmp_path / "out" / work.folder.rows_name(1)).mkdir()
    assert "directory" in problem(work, 1)


@pytest.mark.parametrize("damage", ["rows", "counts", "sum"])
def test_parts_that_do_not_add_up_are_refused(work: Work, tmp_path: Path, damage: str) -> None:
    job = begun(work, tmp_path)
    for part in range(job.listing.parts):
        assert not problem(work, part)
    rows, counts = tmp_path / "out" / "part-00000001.jsonl", tmp_path / "out" / "_parts" / "00000001.done.json"
    if damage == "rows":
        rows.write_bytes(rows.read_bytes()[:-1])
    elif damage == "counts":
        counts.write_bytes(b"[")
    else:
        counts.write_text(json.dumps({**json.loads(counts.read_text()), "pictures": 8}))
    with pytest.raises(ClusterError, match=r"of part 1 in .* are missing or damaged: run the same command with"):
        job.report(work, empty(work), {})
    assert not (tmp_path / "out" / "_manifest.json").exists()


def test_a_listing_is_cut_while_it_is_read() -> None:
    """So that only one part of it is in memory."""
    read, most = [0], [0]

    def names() -> object:
        for number in range(1000):
            read[0] += 1
            yield Found(f"{number}.png", f"{number}.png")

    def keep(part: int, pictures: list[Found]) -> None:
        most[0] = max(most[0], read[0] - 10 * part)

    found = cut(names(), 10, keep, lambda _: None)  # type: ignore[arg-type]
    assert (found.parts, found.pictures) == (100, 1000)
    assert most[0] == 10


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("in --ray", "--ray writes files into a folder: name it with --output"),
        ("in --ray --output out --format table", "--ray takes --format parquet, jsonl or csv, not table"),
        ("in --ray --output out --threads auto", "--ray takes a number of --threads"),
        ("in --ray --output out --info --evidence e", "not with --ray: --evidence, --info"),
        ("--output out --ray in --format csv", "--ray took 'in' as its address: put PATH before --ray"),
        ("in --output out --ray in", "--ray takes host:port or auto, not in: name PATH before --ray"),
        ("in --output out --ray ray://head:10001", "Ray Data does not work through Ray Client"),
        ("in --output out --part-size 7", "no effect without --ray: --part-size"),
        ("in --output out --format parquet", "--format parquet needs --ray"),
        ("in --output .", ". is a folder: name a file with --output"),
        ("in --output taken --ray", "taken is not empty: choose another folder"),
        ("in --output taken/file --ray", "names a folder, and .* is a file"),
        ("in --output taken --ray --resume", "nothing to resume: there is no _job.json"),
        ("in --output left --ray", "left is what is left of a job that was killed during its listing: delete it, or"),
        ("in --output https://host/rows --ray", "a web server can only be read: https://host/rows"),
        ("in --output new --ray --threads 9", "no node of the cluster has 9 CPUs"),
        ("none --output new --ray", "no such file or folder: none"),
    ],
)
def test_options_that_do_not_go_together(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, picture: Callable[..., Path], arguments: str,
    expected: str,
) -> None:  # fmt: skip
    def places(cpus: int, gpus: int) -> None:
        if cpus > 8:
            raise ClusterError(f"no node of the cluster has {cpus} CPUs")

    picture(tmp_path / "in" / "a.png", "red")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_bytes(b"")
    (tmp_path / "left" / "_parts").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cnn_infer.command.on_cluster.connected", lambda _: nullcontext())
    monkeypatch.setattr("cnn_infer.command.on_cluster.places_for", places)
    with pytest.raises((InputError, ClusterError, click.UsageError), match=expected):
        command.main([*arguments.split(), "--model", str(models / "rgb.onnx")], standalone_mode=False)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "nowhere.invalid:6379"])
def test_an_address_without_a_cluster_is_one_line(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, picture: Callable[..., Path], address: str
) -> None:
    monkeypatch.chdir(tmp_path)
    picture("a.png", "red")
    arguments = ["a.png", "--model", str(models / "rgb.onnx"), "--output", "out", "--ray", address]
    with pytest.raises(ClusterError, match=f"cannot connect to the Ray cluster {address}: .*: check address and port"):
        command.main(arguments, standalone_mode=False)
    assert not (tmp_path / "out").exists()


def test_another_server_in_place_of_a_cluster_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A web server lets Ray wait without an end, and so does a server that says nothing."""
    monkeypatch.setattr("cnn_infer.cluster.connection._ANSWER_SECONDS", 0.1)
    with socketserver.TCPServer(("127.0.0.1", 0), Web) as server:
        address = f"127.0.0.1:{server.server_address[1]}"
        with pytest.raises(ClusterError, match=f"{address}: timed out: check address"), connected(address):
            pass
    with socketserver.TCPServer(("127.0.0.1", 0), Web) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        address = f"127.0.0.1:{server.server_address[1]}"
        with pytest.raises(ClusterError, match=f"{address}: another server answers"), connected(address):
            pass
        thread.join()


def test_without_the_extra_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find(name))
    with pytest.raises(InputError, match=r"--ray needs the package ray .*: pip install 'cnn-infer\[ray\]'"):
        command.main(["in", "--output", "out", "--ray"], standalone_mode=False)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("head", "RAY_ADDRESS takes host:port, auto or local, not head"),
        ("http://head:8265", "RAY_ADDRESS takes host:port"),
        ("head:port", "RAY_ADDRESS takes host:port"),
        ("ray://head:10001", "Ray Client"),
    ],
)
def test_a_variable_that_is_no_address_is_one_line(
    monkeypatch: pytest.MonkeyPatch, address: str, expected: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match=expected):
        check_address("")


def test_the_address_local_starts_a_cluster_here(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    started: list[str] = []
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setattr(ray, "init", lambda address, **options: started.append(f"{address} {options['num_cpus'] > 0}"))
    check_address("")
    before = [list(logging.getLogger(name).filters) for name in ("ray", "ray.data")]
    with connected(None):
        assert started == ["local True"]
        assert [list(logging.getLogger(name).filters) for name in ("ray", "ray.data")] != before
    assert [list(logging.getLogger(name).filters) for name in ("ray", "ray.data")] == before


def test_actors_fit_into_processors_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def cluster(*nodes: dict[str, float]) -> None:
        monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": node} for node in nodes])

    cluster({"CPU": 8, "GPU": 2}, {"CPU": 4}, {"CPU": 5, "GPU": 4})
    assert (places_for(2), places_for(2, gpus=1), places_for(5, gpus=1)) == (8, 4, 2)
    with pytest.raises(ClusterError, match=r"no node of the cluster has 9 CPUs \(the largest has 8\)"):
        places_for(9)
    cluster({"CPU": 8}, {"CPU": 2, "GPU": 1})
    with pytest.raises(ClusterError, match=r"no node of the cluster has 3 CPUs beside a GPU \(the largest has 2\)"):
        places_for(3, gpus=1)
    cluster({"CPU": 8})
    with pytest.raises(ClusterError, match="no node of the cluster has a GPU: pass --device cpu"):
        places_for(1, gpus=1)


def test_the_rate_of_a_resumed_job_is_that_of_its_last_run(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(_: Job, work: Work, missing: list[int]) -> Iterator[dict[str, object]]:
        for part in missing:
            answer = PartClassifier(work)({"part": np.array([part])})
            yield {key: values[0] for key, values in answer.items()}

    monkeypatch.setattr(Job, "_answers", answers)
    first = begun(work, tmp_path)
    assert [problem(work, part) for part in range(3)] == [""] * 3
    job = Job(work.folder, first.listing, first.made_with)
    job.resume(work)
    job.run(work)
    report, _ = job.report(work, empty(work), {})
    unreadable = sum(counts["errors"] for part in (3, 4) if (counts := work.folder.counts(part)))
    assert report.images_per_second == (9 - unreadable) / job.seconds


@pytest.mark.parametrize(
    "damage",
    [{"counted": {"images": 5}}, {"counted": [1]}, {"pictures": 8}, {"errors": 3}, {"counted": {"page": None}}],
)
def test_a_part_with_damaged_counts_is_done_again(work: Work, tmp_path: Path, damage: dict[str, object]) -> None:
    first = begun(work, tmp_path)
    assert [problem(work, part) for part in range(3)] == [""] * 3
    counts = tmp_path / "out" / "_parts" / "00000001.done.json"
    found = json.loads(counts.read_text())
    if damage == {"counted": {"page": None}}:
        damage = {"counted": {**found["counted"], "page": None}}
    counts.write_text(json.dumps({**found, **damage}))
    job = Job(work.folder, first.listing, first.made_with)
    job.resume(work)
    assert job.done == {0, 2}
    assert not counts.exists()


@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_a_terminated_job_is_resumed_with_lists_that_are_written_again(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, picture: Callable[..., Path],
    capsys: pytest.CaptureFixture[str], damage: str,
) -> None:  # fmt: skip
    def terminated(job: Job, work: Work) -> None:
        work.do(0)  # its answer does not reach the job
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    def run(*options: str) -> None:
        command.main([*arguments, *options], standalone_mode=False)

    for name in "ab":
        picture(tmp_path / "in" / f"{name}.png", "red")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cnn_infer.command.on_cluster.connected", lambda _: nullcontext())
    monkeypatch.setattr("cnn_infer.command.on_cluster.places_for", lambda cpus, gpus: 1)
    monkeypatch.setattr(Job, "run", terminated)
    options = ("--output", "out", "--format", "jsonl", "--part-size", "1", "--ray")
    arguments = ["in", "--model", str(models / "rgb.onnx"), *options]
    with pytest.raises(TerminatedError, match="terminated"):
        run()
    assert TerminatedError.exit_code == 143
    assert "1 of 2 parts written to" in capsys.readouterr().err
    first, second = (Path("out", "_parts", f"0000000{part}.json") for part in range(2))
    if damage == "altered":
        second.write_bytes(first.read_bytes())
    else:
        second.unlink()
    with pytest.raises(InputError, match=r"--top changed since the job in .* was started"):
        run("--resume", "--top", "2")
    monkeypatch.setattr(Job, "run", lambda _, work: [work.do(part) for part in range(2)])
    run("--resume")
    assert [json.loads(path.read_text())["path"] for path in sorted(Path("out").glob("part-*"))] == [
        "in/a.png",
        "in/b.png",
    ]
    manifest = json.loads(Path("out", "_manifest.json").read_text())
    assert manifest["made_with"]["options"]["--part-size"] == 1
    assert Path("out", "_SUCCESS").exists()


def test_a_cluster_that_refuses_names_token_authentication(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own message does not."""
    import ray

    def refuse(address: str, **options: object) -> None:
        raise ConnectionError("no answer")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    expected = "cannot connect to the Ray cluster auto: no answer: if it has token authentication, set RAY_AUTH_MODE"
    with pytest.raises(ClusterError, match=expected), connected("auto"):
        pass
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(ClusterError, match=r"no answer$"), connected("auto"):
        pass


def test_the_time_of_a_part_has_that_of_its_rows(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(path: str, data: bytes) -> None:
        time.sleep(0.2 * ("part-" in path))
        write_bytes(path, data)

    begun(work, tmp_path)
    monkeypatch.setattr("cnn_infer.cluster.folder.write_bytes", slowly)
    start = time.time()
    assert not problem(work)
    counts = work.folder.counts(0)
    assert counts is not None
    assert start <= counts["started"] <= counts["ended"] - 0.2 <= time.time() - 0.2


def test_lists_are_private_and_go_with_the_end_of_the_job(work: Work, tmp_path: Path) -> None:
    """They have URLs as they were given, also with passwords."""
    job = begun(work, tmp_path)
    assert (tmp_path / "out" / "_parts").stat().st_mode & 0o777 == 0o700
    work.folder.finish(job.listing.parts)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["_SUCCESS", "_job.json"]


def test_a_listing_that_was_interrupted_leaves_a_free_folder(work: Work) -> None:
    def names() -> Iterator[Found]:
        yield Found("a.png", "a.png")
        raise KeyboardInterrupt

    work.folder.begin()
    with pytest.raises(KeyboardInterrupt), work.folder.lists() as keep:
        cut(names(), 1, keep, lambda _: None)
    work.folder.check_free()
