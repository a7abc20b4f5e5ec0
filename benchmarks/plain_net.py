"""A plain residual net as a unit of time: how long one of its training steps takes on this machine right now.

    python benchmarks/plain_net.py

A shared machine can become three times slower within minutes. So benchmarks/train.py times some steps of this net
before and after each training, and also reports the training time in epochs of this net. If the machine is half as
fast, the training takes twice as long, but the same number of these epochs.

The net and its training must not change. It has 413k parameters: convolutions 16, 32 and pool, residual pair 32, 64 and
pool, 128 and pool, residual pair 128, global max pool, linear; all convolutions are 3x3 with batch norm and ReLU. The
pictures are 28 x 28 x 1. Training uses SGD with Nesterov momentum 0.9, batch size 256, label smoothing, and bf16 if the
processor supports it.
"""

from __future__ import annotations

import argparse
import time

import torch
from cnn_infer.system import machine
from cnn_train.device import pick_precision
from torch import Tensor, nn
from torch.nn import functional

BATCH = 256
SIDE = 28
STEPS_PER_EPOCH = 235
"""Batches in an epoch of 60,000 pictures (Fashion-MNIST)."""

WARM_UP = 3


class Pair(nn.Module):
    """A residual block: the input plus two convolutions of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*convolution(width, width), *convolution(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, width, h, w) to the same shape."""
        result: Tensor = features + self.body(features)
        return result


def convolution(inputs: int, outputs: int, *after: nn.Module) -> list[nn.Module]:
    """A 3x3 convolution with batch norm and ReLU."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(), *after]


def network() -> nn.Module:
    """The net, from float pictures (n, 1, 28, 28) to logits (n, 10)."""
    return nn.Sequential(
        *convolution(1, 16),
        *convolution(16, 32, nn.MaxPool2d(2)),
        Pair(32),
        *convolution(32, 64, nn.MaxPool2d(2)),
        *convolution(64, 128, nn.MaxPool2d(2)),
        Pair(128),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def augmented(pictures: Tensor) -> Tensor:
    """Pad by 2 pixels and crop, flip, and cut out a square of 8 pixels, at random for each picture."""
    device, count = pictures.device, len(pictures)
    side = torch.arange(SIDE, device=device)
    padded = functional.pad(pictures, (2,) * 4, mode="reflect")
    down, across = (torch.randint(5, (count, 1), device=device) + side for _ in range(2))
    across = torch.where(torch.rand(count, 1, device=device) < 0.5, across, across.flip(1))
    chosen = padded.permute(0, 2, 3, 1)[
        torch.arange(count, device=device)[:, None, None], down[:, :, None], across[:, None]
    ]
    top, left = (side - torch.randint(SIDE - 7, (count, 1), device=device) for _ in range(2))
    hidden = ((top >= 0) & (top < 8))[:, :, None] & ((left >= 0) & (left < 8))[:, None]
    return torch.where(hidden[..., None], 0.0, chosen).permute(0, 3, 1, 2)


def seconds_per_step(device: str = "cpu", steps: int = 20) -> float:
    """Mean seconds of one training step, with PyTorch's default number of threads.

    Args:
        device: ``cpu`` or ``cuda``.
        steps: Timed steps; a few untimed ones run first as a warm-up.
    """
    has_bf16 = device == "cuda" or pick_precision("auto", torch.device(device))[0] == "bf16"
    net = network().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    pixels = torch.randint(256, (BATCH, 1, SIDE, SIDE), device=device)
    labels = torch.randint(10, (BATCH,), device=device)
    start = 0.0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            start = time.perf_counter()
        batch = augmented((pixels.float() - 73) / 90)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=has_bf16):
            logits = net(batch)
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the GPU
    return (time.perf_counter() - start) / steps


def main() -> None:
    """Print the seconds of a step and of an epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to train")
    parser.add_argument("--steps", type=int, default=20, help="timed training steps")
    options = parser.parse_args()
    seconds = seconds_per_step(options.device, options.steps)
    print(f"{machine.description()}; {torch.get_num_threads()} threads, {options.device}")
    print(f"{1e3 * seconds:.1f} ms a step, {STEPS_PER_EPOCH * seconds:.1f} s an epoch")


if __name__ == "__main__":
    main()
