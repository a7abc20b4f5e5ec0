"""The command ``cnn-train``: pictures to a trained network in a run folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from cnn_infer import console
from cnn_infer.system.interrupt import while_loading

EXAMPLES = """\b
Examples:
  cnn-train                                    the digits that ship with scikit-learn, half a minute
  cnn-train fashion-mnist --model nano
  cnn-train photos/ --size 96 --epochs 30      photos/CLASS/*.jpg, split by seed
  cnn-train --resume                           go on after Ctrl-C
Then: cnn-export --quantize
"""


@click.command("cnn-train", epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("data", required=False)
@click.option("--model", help="nano, small (default), base, large, or a torchvision classification model.")
@click.option(
    "--pretrained/--no-pretrained",
    default=None,
    help="Start from torchvision's weights: first the last layer learns alone, then all at a tenth of --lr.",
)
@click.option("--epochs", type=int, help="At most. Default: by the number of pictures, 10 to 200.")
@click.option(
    "--patience",
    type=int,
    help="Stop after so many epochs without a better one on validation; 0: never. Default: half of --epochs for less "
    "than 10,000 pictures, else 0.",
)
@click.option("--batch-size", type=int, help="Default: 256, less for small sets; --lr follows it.")
@click.option(
    "--lr", type=float, help="Peak learning rate. Default: follows --batch-size; given alone, --batch-size follows it."
)
@click.option("--optimizer", help="muon (default of our own networks), sgd (of torchvision's), adam or adamw.")
@click.option("--weight-decay", type=float, help="Default: 5e-4 for muon and sgd, 0 for adam, 0.05 for adamw.")
@click.option("--dropout", type=float, help="Before the last layer. Default: 0; torchvision's models keep their own.")
@click.option("--label-smoothing", type=float, help="Default: 0.1.")
@click.option(
    "--augment", metavar="LIST", help="none, or out of flip,crop,zoom,rotate,cutout,colour. Default: suits the data."
)
@click.option(
    "--balance/--no-balance", default=None, help="Draw every class equally often. Default: as the pictures are."
)
@click.option(
    "--size", type=int, help="Side in pixels. Default: the pictures' own where equal and at most 128, else 128."
)
@click.option("--resize", type=click.Choice(["squash", "crop", "pad"]), help="How to reach it. Default: crop.")
@click.option("--seed", type=int, help="Of everything random. Default: 0.")
@click.option("--device", help="auto (default), cpu, cuda or mps.")
@click.option("--precision", help="auto (default, by the processor's flags), fp32, bf16 or fp16.")
@click.option("--config", type=click.Path(dir_okay=False), help="TOML file with these options; the command line wins.")
@click.option("--out", type=click.Path(file_okay=False), help="The run folder. Default: runs/TIMESTAMP-DATA.")
@click.option(
    "--cache", type=click.Path(file_okay=False), help="Where decoded pictures are kept, until 30 days unused."
)
@click.option(
    "--data-dir", type=click.Path(file_okay=False), help="Where mnist, fashion-mnist and cifar10 are looked for first."
)
@click.option("--resume", is_flag=True, help="Go on with the training in --out, or the newest unfinished one.")
@click.option("--overwrite", is_flag=True, help="Replace what is in --out and --test-pictures.")
@click.option("--strict/--no-strict", default=None, help="An unreadable picture is an error.")
@click.option(
    "--test-pictures", type=click.Path(file_okay=False), metavar="DIR", help="Write the test split there as PNG files."
)
@click.version_option(package_name="cnn-train")
def command(**options: Any) -> None:
    """Train a network on pictures and write a run folder with its weights, figures and plots.

    DATA is digits (default), mnist, fashion-mnist, cifar10, or a folder: IDX files as MNIST's, train/ with
    optional val/ and test/, or one subfolder a class.
    """
    # torch takes seconds to import: --help and mistyped options need not wait for it
    with while_loading("cnn-train"):
        from cnn_train.training import train

    for key in ("cache", "data_dir"):
        if options[key] is not None:
            options[key] = str(Path(options[key]))
    train(**{key: value for key, value in options.items() if value is not None})


def main() -> None:
    """Entry point of the command."""
    console.main(command, _speaks)


def _speaks() -> bool:
    if "WORLD_SIZE" not in os.environ:  # of torchrun
        return True
    from cnn_train import distributed

    return not distributed.launched_by_torchrun() or distributed.first_to_report()
