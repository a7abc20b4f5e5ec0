"""How networks are evaluated: with the settings of the training, in full precision."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from cnn_infer import Spec
from cnn_train.network.logits import logits_of
from cnn_train.recipe.features import Extractor
from torch import Tensor, nn

CPU = torch.device("cpu")
SPEC = Spec(("a", "b"), 8, 8, "grey", "crop", "bilinear", zero_point=127, scale=1 / 128)
SETTINGS = ("enabled", "benchmark", "deterministic", "allow_tf32")


class Watched(nn.Module):
    """A network that notes the settings of cuDNN under which it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 2)
        self.seen: list[tuple[bool, ...]] = []

    def forward(self, pictures: Tensor) -> Tensor:
        self.seen.append(settings())
        logits: Tensor = self.head(pictures.flatten(1))
        return logits


def settings() -> tuple[bool, ...]:
    return tuple(getattr(torch.backends.cudnn, name) for name in SETTINGS)


@pytest.fixture(params=[True, False], ids=["deterministic", "not deterministic"])
def deterministic(request: pytest.FixtureRequest) -> Iterator[bool]:
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = request.param
    yield request.param
    torch.backends.cudnn.deterministic = before


def logits(network: Watched, pictures: np.ndarray) -> None:
    logits_of(network, pictures, SPEC, CPU)


def features(network: Watched, pictures: np.ndarray) -> None:
    Extractor(network, SPEC, torch.float32, CPU, None, lambda: None).features(pictures, "train", mirrored=True)


@pytest.mark.parametrize("evaluate", [logits, features])
def test_an_evaluation_turns_off_tf32_and_nothing_else(
    deterministic: bool, evaluate: Callable[[Watched, np.ndarray], None]
) -> None:
    network, before = Watched(), settings()
    evaluate(network, np.zeros((3, 8, 8, 1), np.uint8))
    assert {dict(zip(SETTINGS, seen, strict=True))["deterministic"] for seen in network.seen} == {deterministic}
    assert set(network.seen) == {(*before[:3], False)}
    assert settings() == before
