"""The files for Slurm and Kubernetes in docs/nodes.md: they parse, and torchrun and cnn-train know their options."""

import re
import shlex
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from cnn_train.cli import command
from torch.distributed.run import parse_args


def check(words: list[str], name: str = "none") -> None:
    """Parse the command line of torchrun, and that of cnn-train in it. The training must have a ``name``."""
    assert words[0] == "torchrun"
    options = parse_args(words[1:])
    assert (options.module, options.training_script) == (True, "cnn_train")
    assert {options.rdzv_id, name} != {"none"}
    context = command.make_context("cnn-train", options.training_script_args)
    assert context.params["data"]
    assert context.params["out"].startswith(("/shared/runs/", "/runs/"))


@pytest.fixture(scope="module")
def texts(blocks: Callable[[str], list[Any]]) -> list[str]:
    return [block.body for block in blocks("docs/nodes.md") if block.kind == "text"]


def test_the_command_and_the_batch_script(blocks: Callable[[str], list[Any]], texts: list[str]) -> None:
    (shown,) = [block.body for block in blocks("docs/nodes.md") if block.kind == "sh"]
    (script,) = [text for text in texts if text.startswith("#!/bin/bash")]
    for body in (shown, script):
        subprocess.run(["bash", "-n"], input=body, text=True, check=True)
        assert "export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1\n" in body
        (line,) = re.findall(r"^(?:srun )?(torchrun .*)$", body.replace("\\\n", " "), re.M)
        check(shlex.split(line.replace("$SLURM_NNODES", "2")))


def test_the_manifests(texts: list[str]) -> None:
    documents = [found for text in texts if text.startswith("apiVersion") for found in yaml.safe_load_all(text)]
    runtime, train_job, pytorch_job = documents
    assert [found["kind"] for found in documents] == ["TrainingRuntime", "TrainJob", "PyTorchJob"]
    assert train_job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    assert train_job["spec"]["trainer"]["numNodes"] == runtime["spec"]["mlPolicy"]["numNodes"]
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    worker = pytorch_job["spec"]["pytorchReplicaSpecs"]["Worker"]
    assert worker["replicas"] == pytorch_job["spec"]["elasticPolicy"]["maxReplicas"]
    pods = [replicated["template"]["spec"]["template"]["spec"], worker["template"]["spec"]]
    commands = [train_job["spec"]["trainer"]["command"], pods[1]["containers"][0]["command"]]
    names = ["none", pytorch_job["spec"]["elasticPolicy"]["rdzvId"]]
    for pod, words, name in zip(pods, commands, names, strict=True):
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert {*mounts} == {volume["name"] for volume in pod["volumes"]}
        assert words[words.index("cnn_train") + 1] == mounts["photos"]
        assert words[-1].startswith(f"{mounts['runs']}/")
        check(words, name)
