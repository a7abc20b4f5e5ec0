"""Early stopping: keep the epoch with the best validation loss, and stop after enough epochs without a better one.

Both follow from the list of epochs alone, so a training that resumes from a checkpoint decides as if it had never
been interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cnn_train.config import Config
from cnn_train.recipe.finetuning import fits_again, learning_epochs
from cnn_train.recipe.fit import Epoch
from cnn_train.recipe.resizing import picture_size


def best_epoch(epochs: Sequence[Epoch]) -> Epoch:
    """Return the epoch to keep: the one with the lowest ``val_calibrated_loss``, the first of equal ones.

    Only the epochs with the largest pictures count. Other epochs show smaller pictures than the network is made for,
    and their losses are measured at that smaller size. Every complete training has epochs at the final size.

    With pretrained weights the latest epoch is kept whose loss is at most one standard error above the lowest one so
    far. Few validation pictures cannot tell these apart, and the last epochs, at low learning rates, are usually the
    better ones (the rule of one standard error: Breiman et al., 1984, "Classification and Regression Trees").

    Args:
        epochs: At least one, in order.
    """
    most = max(epoch.height * epoch.width for epoch in epochs)
    largest = [epoch for epoch in epochs if epoch.height * epoch.width == most]
    kept = largest[0]
    if kept.lr:
        return min(largest, key=lambda epoch: epoch.val_calibrated_loss)
    error, lowest = kept.val_calibrated_error, kept.val_calibrated_loss
    for epoch in largest[1:]:
        if epoch.val_calibrated_loss <= lowest + error:
            kept = epoch
        lowest = min(lowest, epoch.val_calibrated_loss)
    return kept


def out_of_patience(epochs: Sequence[Epoch], config: Config) -> bool:
    """Whether to stop learning: ``config.patience`` epochs have followed the best one without improving on it.

    Only epochs that showed pictures of the size of the last epoch that learns count, so a training from scratch never
    stops while its pictures are still small. The fit of the last layer of pretrained weights does not count, because
    fine-tuning first has to reach low learning rates. (Prechelt, 1998, "Early Stopping - But When?")

    Args:
        epochs: All epochs so far, in order.
        config: The settings of the training. A patience of 0 never stops.
    """
    size = picture_size(config, learning_epochs(config).stop - 1)
    compared = [epoch for epoch in epochs if (epoch.height, epoch.width) == size and epoch.lr]
    if config.patience == 0 or not compared:
        return False
    best = min(compared, key=lambda epoch: epoch.val_calibrated_loss)
    return compared[-1].epoch - best.epoch >= config.patience


def is_over(epochs: Sequence[Epoch], config: Config) -> bool:
    """Whether a training has had its last epoch. One that stops early still fits its last layer again, if it should.

    Args:
        epochs: All epochs so far, in order.
        config: The settings of the training.
    """
    if len(epochs) == config.epochs:
        return True
    return out_of_patience(epochs, config) and not (fits_again(config) and epochs[-1].lr)


def copy_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the parameters and buffers, which further training does not change."""
    return {key: value.detach().clone() for key, value in network.state_dict().items()}
