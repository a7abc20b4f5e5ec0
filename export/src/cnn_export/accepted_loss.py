"""How much accuracy a smaller model may lose."""

from __future__ import annotations

from cnn_export.options import MAX_DROP


def allowed_drop(pictures: int) -> float:
    """Return the accepted loss of accuracy on so many pictures, in percentage points.

    It is :data:`MAX_DROP`, or one picture where that is more.
    """
    return max(MAX_DROP, 100 / pictures)


def loses_too_much(lost: int, pictures: int, allowed: float) -> bool:
    """Whether a model loses more than ``allowed`` percentage points of accuracy.

    Args:
        lost: Number of pictures that it classifies correctly less than before.
        pictures: Number of all pictures.
        allowed: The accepted loss, in percentage points.
    """
    # a count of pictures instead of a share: 0.2 points of 5,000 are exactly 10 pictures
    return lost > round(allowed * pictures / 100, 6)
