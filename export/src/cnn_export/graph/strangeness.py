"""The output ``strangeness``: how far a picture is from the training pictures.

It is the squared Mahalanobis distance of the features to the nearest mean of a class, with one covariance that all
classes share (Lee et al., 2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial
Attacks", arXiv:1807.03888), divided by the number of features: about 1 for a training picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cnn_infer.optional_outputs import STRANGENESS
from numpy.typing import NDArray
from onnx import ModelProto, helper

from cnn_export.graph.features import feature_nodes
from cnn_export.graph.outputs import add_output


@dataclass(frozen=True)
class Statistics:
    """The training pictures in d features: a mean for each class, and one covariance that they share.

    Attributes:
        means: float64 (classes, d).
        covariance: float64 (d, d), positive definite.
    """

    means: NDArray[np.float64]
    covariance: NDArray[np.float64]


def add_strangeness(model: ModelProto, statistics: Statistics) -> ModelProto:
    """Return a copy of a finished graph with the output ``strangeness``, float32 (batch,).

    The features are whitened: multiplied with a matrix after which their covariance is the unit matrix divided by d.
    With z the whitened features, the distance to the nearest centre c is ``|z|^2 + min(|c|^2 - 2 z c)``: two matrix
    products, and no tensor of the size batch x classes x features.

    Args:
        model: Graph with the inputs and outputs of the model file.
        statistics: Those of the features that this graph computes.

    Raises:
        GraphError: no convolution of the network reads what another one computed.
    """
    found = feature_nodes(model)
    names = ("white", "square", "crossed", "nearest", "sum", "whitening", "offset", "centres", "centre_squares")
    white, square, crossed, nearest, total, whitening, offset, centres, squares = (f"{STRANGENESS}/{n}" for n in names)
    axis = f"{STRANGENESS}/axis"
    variances, directions = np.linalg.eigh(statistics.covariance)
    matrix = directions / np.sqrt(variances * found.count)
    middle = statistics.means.mean(axis=0)  # distances from it are short, so float32 rounds less
    centred = (statistics.means - middle) @ matrix
    constants = {
        **found.constants,
        whitening: matrix.astype(np.float32),
        offset: (-middle @ matrix).astype(np.float32),
        centres: (-2 * centred.T).astype(np.float32),
        squares: (centred**2).sum(axis=1).astype(np.float32),
    }
    nodes = [
        *found.nodes,
        helper.make_node("Gemm", [found.name, whitening, offset], [white]),
        helper.make_node("ReduceSumSquare", [white, axis], [square], keepdims=1),
        helper.make_node("Gemm", [white, centres, squares], [crossed]),
        helper.make_node("ReduceMin", [crossed, axis], [nearest], keepdims=1),
        helper.make_node("Add", [square, nearest], [total]),
        helper.make_node("Squeeze", [total, axis], [STRANGENESS]),
    ]
    return add_output(model, STRANGENESS, (), nodes, constants)
