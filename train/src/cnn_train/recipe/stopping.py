"""Early stopping: the epoch that is best on validation is kept, and after enough without a better one it is over.

Both follow from the epochs alone, so a training that goes on from a checkpoint decides as one that was never cut off.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cnn_train.recipe.fit import Epoch


def best_epoch(epochs: Sequence[Epoch]) -> Epoch:
    """The one with the lowest ``val_calibrated_loss`` among those of the largest pictures; the first of equal ones.

    There must be one.
    """
    return min(epochs, key=lambda epoch: (-epoch.height * epoch.width, epoch.val_calibrated_loss))


def out_of_patience(epochs: Sequence[Epoch], patience: int) -> bool:
    """Whether the last ``patience`` epochs brought no better one (Prechelt, 1998, "Early Stopping - But
    When?"); never where ``patience`` is 0.
    """
    return patience > 0 and len(epochs) > 0 and len(epochs) - best_epoch(epochs).epoch >= patience


def copied(network: nn.Module) -> dict[str, Tensor]:
    """The weights and statistics as they are now, whatever becomes of the network."""
    return {key: value.detach().clone() for key, value in network.state_dict().items()}
