# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: -jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From pictures to a small, fast, proven network
#
# You need to know some Python, but nothing about neural networks. In this notebook you train a network that names what
# a picture shows. Then you make it small and fast, and prove that it still computes the same results.
#
# The network is a *CNN*, a convolutional neural network. The notebook explains step by step what that means.
#
# Run the cells from top to bottom, each with Shift+Enter. Every step has an explanation, then code, then the result of
# the code. You can change any number in the code; then run that cell and the cells below it again. The results are
# stored in a folder `runs` beside this notebook.
#
# ## Installing
#
# The first cell installs the toolkit, EdgeCNN, if it is missing. `SOURCE` is the place of its code. If you have the
# whole repository, the folder above this notebook is the right value. In Colab and Kaggle, set `SOURCE` to the address
# of the repository (it begins with `https://`) or to the folder that you uploaded it to.

# %%
SOURCE = ".."

import importlib.util
import subprocess
import sys
from pathlib import Path

FOLDERS = {"cnn_infer": "infer", "cnn_train": "train", "cnn_export": "export"}  # each package and its folder

if all(importlib.util.find_spec(name) for name in FOLDERS):
    print("EdgeCNN is installed already.")
else:
    wanted = []
    for name, folder in FOLDERS.items():
        extra = "[cpu]" if name == "cnn_infer" else ""  # with ONNX Runtime, which runs the finished file
        if "://" in SOURCE:
            wanted.append(f"{name.replace('_', '-')}{extra} @ git+{SOURCE.removeprefix('git+')}#subdirectory={folder}")
        else:
            if not Path(SOURCE, folder, "pyproject.toml").exists():
                raise FileNotFoundError(f"{SOURCE!r} does not hold EdgeCNN: set SOURCE to its folder or its address")
            wanted.append(f"{Path(SOURCE, folder).resolve()}{extra}")
    print("installing; if PyTorch is missing, this takes some minutes, because it is large")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted], check=True)
    importlib.invalidate_caches()
    print("EdgeCNN is installed.")

# %% [markdown]
# The variable `DATA` selects the pictures. `fashion-mnist` is a set of small grey photographs of clothes. `digits` is a
# set of tiny pictures of handwritten digits; it needs no download and takes a fraction of the time. You can also give
# the path of a folder that holds one folder of pictures for each class.

# %% tags=["parameters"]
DATA = "fashion-mnist"

# %% [markdown]
# The next cell imports the packages. `cnn_train` trains, `cnn_export` writes the trained network to a file, and
# `cnn_infer` runs that file. PyTorch (`torch`) does the computing during training; its tables of numbers are called
# *tensors*. The two short functions show text and tables.

# %%
import itertools
import logging
import math
import shutil
import time

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import torch
from cnn_export import export
from cnn_infer import Classifier, evaluate, latency, verify
from cnn_train import AUGMENTATIONS, DataError, DivergedError, make_spec, open_source, plots, prepare, resolve, train
from cnn_train.replay import augment, build_network, learning_rate_factor, to_input
from IPython.display import Image, Markdown, display
from scipy.stats import binomtest
from sklearn.datasets import load_sample_image
from torch import nn
from torch.nn import functional

STARTED = time.perf_counter()
CPU = torch.device("cpu")
plt.rcParams["figure.dpi"] = 80  # small pictures make a small notebook


def say(text):
    """Show a text in Markdown."""
    display(Markdown(text))


def table(rows):
    """Make a table from a list of dictionaries, one for each row."""
    lines = [rows[0].keys(), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return Markdown("\n".join("| " + " | ".join(str(value) for value in line) + " |" for line in lines))


for package in ("cnn_train", "cnn_export"):
    logging.getLogger(package).setLevel(logging.ERROR)  # the text of this notebook covers their warnings

# %% [markdown]
# ## What a picture is
#
# For a computer, a picture is a table of numbers. Each number is the brightness of one spot, which is called a *pixel*.
# A picture in colour has three such tables, its *channels*: red, green and blue. A grey picture has one channel.
#
# Look at the red square in the photograph. On the right it is enlarged, with the number of each pixel. The numbers are
# large where the picture is bright and small where it is dark.
#
# (The photograph comes with scikit-learn. It is by danielbuechele, some rights reserved, under the licence [CC BY
# 2.0](https://creativecommons.org/licenses/by/2.0/); here it is cropped, converted to grey, and filtered.)

# %%
photo = load_sample_image("china.jpg")[20:340, 60:380]  # only the temple
grey = photo.mean(axis=2)  # the mean of red, green and blue
ROW, COLUMN, SIDE = 10, 132, 14

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
left.imshow(grey, cmap="gray")
left.add_patch(plt.Rectangle((COLUMN, ROW), SIDE, SIDE, edgecolor="red", facecolor="none", linewidth=1.5))
patch = grey[ROW : ROW + SIDE, COLUMN : COLUMN + SIDE]
right.imshow(patch, cmap="gray", vmin=0, vmax=255)
for (row, column), value in np.ndenumerate(patch):
    colour = "black" if value > 128 else "white"
    right.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=6, color=colour)
for axes in (left, right):
    axes.axis("off")
plt.show()

say(
    f"The photograph is a table of {grey.shape[0]} rows and {grey.shape[1]} columns: {grey.size:,} numbers. "
    f"The darkest is {grey.min():.0f}, the brightest {grey.max():.0f}."
)

# %% [markdown]
# ## What a convolution does
#
# A *convolution* looks at a picture through a small window. The window has a number at each position, called a
# *weight*. All weights together are called a *filter*. A convolution works like this:
#
# - Put the window on a corner of the picture.
# - Multiply each pixel in the window by the weight at its position, and add up the products.
# - Write down the sum, move the window by one pixel, and repeat until the whole picture is done.
#
# The sums are a new picture. It is called a *feature map*, because it shows where the picture has a certain feature.
#
# The filter below has negative weights on its left side and positive weights on its right side. If the picture is the
# same on both sides, the sum is near zero. At a vertical edge it is far from zero: positive where dark turns into
# bright, negative where bright turns into dark.
#
# The cell computes one sum by hand in the sky, and one at the edge of the dark part of the red square. PyTorch computes
# all sums (`conv2d`). Compare the columns of the table, then its rows.

# %%
vertical = torch.tensor(
    [
        [-1.0, 0.0, 1.0],
        [-2.0, 0.0, 2.0],  # the middle row counts double
        [-1.0, 0.0, 1.0],
    ]
)
picture = torch.tensor(grey, dtype=torch.float32)

# conv2d takes a list of pictures and a list of filters, both with channels; each None adds one of these dimensions
feature_map = functional.conv2d(picture[None, None], vertical[None, None])[0, 0]

rows = []
for place, down, right in [("sky", ROW, COLUMN), ("edge", ROW + 5, COLUMN + 3)]:
    window = picture[down : down + 3, right : right + 3]
    by_hand = (window * vertical).sum()
    rows.append({"place": place, "sum by hand": f"{by_hand:.1f}", "by PyTorch": f"{feature_map[down, right]:.1f}"})
display(table(rows))

# %% [markdown]
# Other weights find other features. Below are the feature maps of four filters. In the two maps of edges, grey means a
# sum of zero; bright and dark mean sums far from zero. Look at the walls of the temple in "vertical edges", and at the
# steps and roofs in "horizontal edges". The filter "blur" computes the mean of its window. The filter "sharpen"
# increases the difference between each pixel and its neighbours.

# %%
FILTERS = {
    "vertical edges": vertical,
    "horizontal edges": vertical.T,  # rows and columns swapped
    "blur": torch.full((3, 3), 1 / 9),
    "sharpen": torch.tensor([[0.0, -1.0, 0.0], [-1.0, 5.0, -1.0], [0.0, -1.0, 0.0]]),
}
maps = functional.conv2d(picture[None, None], torch.stack(list(FILTERS.values()))[:, None])[0]

figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for place, name, found in zip(axes, FILTERS, maps, strict=True):
    place.imshow(found, cmap="gray", vmin=-255 if "edges" in name else 0, vmax=255)
    place.set_title(name, fontsize=10)
    place.axis("off")
plt.show()

# %% [markdown]
# No person chooses the filters of a network. A network begins with random weights, and *training* changes them until
# they are useful. A later section shows how.
#
# Two small steps usually follow a convolution:
#
# - *ReLU* replaces each negative number by zero. Without it, a chain of convolutions could do no more than one large
#   convolution, because a sum of sums is again a sum.
# - *Max pooling* keeps the largest number of each square of two by two and drops the others. The map becomes smaller,
#   but it still shows the feature.
#
# Look at one roof of the temple. (The titles give the size of the whole map.) Zero is grey in the first picture and
# black in the other two. After ReLU only the edges from dark to bright are left. After pooling they are coarser, but
# still visible.

# %%
after_relu = functional.relu(maps[0])
after_pooling = functional.max_pool2d(after_relu[None], 2)[0]

figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
steps = {"feature map": (maps[0], 1), "after ReLU": (after_relu, 1), "after max pooling": (after_pooling, 2)}
for place, (name, (found, shrunk)) in zip(axes, steps.items(), strict=True):
    roof = found[60 // shrunk : 150 // shrunk, 30 // shrunk : 130 // shrunk]
    place.imshow(roof, cmap="gray", vmin=-255 if found.min() < 0 else 0, vmax=255, interpolation="nearest")
    place.set_title(f"{name}: {found.shape[0]} rows, {found.shape[1]} columns", fontsize=9)
    place.axis("off")
plt.show()

# %% [markdown]
# ## The data
#
# A network learns from examples: pictures with the right answer for each one. The possible answers are called
# *classes*; the right answer for a picture is its *label*. The cell loads the data set that `DATA` names. If
# Fashion-MNIST is not on this machine and cannot be downloaded, the cell says so and uses the digits instead.

# %%
try:
    data = prepare(open_source(DATA))
except DataError as problem:
    print(f"{problem}\nThis notebook continues with the digits that come with scikit-learn.")
    DATA = "digits"
    data = prepare(open_source(DATA))
classes = data.source.classes

say(
    f"The set is **{data.source.name}**. Its pictures are {data.height} pixels high and {data.width} wide, "
    f"{'grey' if data.colour == 'grey' else 'in colour'}. It has {len(classes)} classes: {', '.join(classes)}."
)

# %% [markdown]
# The pictures are divided into three parts, called *splits*:
#
# - **train**: the network learns from these pictures.
# - **validation**: these pictures help to make decisions, such as when to stop.
# - **test**: these pictures are not used until the end. They show how good the network is on pictures that played no
#   part in its making.
#
# Why is this separation necessary? A network can memorise its training pictures. Then it is perfect on them and poor on
# all others. Only pictures that it has never seen reveal this.

# %%
purposes = {"train": "learning", "val": "decisions (validation)", "test": "the final evaluation"}
display(
    table(
        [
            {"split": name, "pictures": f"{len(split.labels):,}", "purpose": purposes[name]}
            for name, split in data.splits.items()
        ]
    )
)
counts = np.bincount(data.train.labels, minlength=len(classes))
say(f"The rarest class has {counts.min():,} training pictures and the most frequent one {counts.max():,}.")

# %% [markdown]
# The last two numbers matter. If one class is much more frequent than another, the network learns to name the frequent
# class too often. (`train(..., balance=True)` is for such data sets.)
#
# Always look at your data before you train on it. Above each picture is its label. Is the label right? Could you tell
# the classes apart yourself?

# %%
display(plots.grid(data.train.images[:24], [classes[label] for label in data.train.labels[:24]], "training pictures"))

# %% [markdown]
# ## Normalisation
#
# Networks learn best from numbers around zero that are neither large nor tiny. Large numbers make large sums, and then
# learning becomes unstable. Pixels are never negative, and many are large. So the toolkit computes two numbers from all
# training pictures: the *mean*, and the *standard deviation*, which says how far pixels usually are from the mean. It
# subtracts the mean from each pixel and divides the result by the standard deviation. This is called *normalisation*.
#
# Normalisation does not change the look of a picture. Compare the two pictures: they look the same. Then compare the
# numbers beside their colour bars. The two histograms below them count how often each value occurs. Again only the
# scale at the bottom differs.

# %%
settings = resolve({"data": DATA}, data)  # the toolkit's default choices for this data
spec = make_spec(settings, data)  # how a picture becomes the network's input
raw = data.train.images[0]
normalised = to_input(raw[None], spec, CPU)[0]  # to_input takes many pictures; each becomes (channels, rows, columns)

figure, axes = plt.subplots(2, 2, figsize=(8, 5), layout="constrained", height_ratios=(3, 1.6))
some = data.train.images[:2000]
for column, (name, one, many) in enumerate(
    [
        ("original", raw, some),
        # permute: matplotlib needs the channels last
        ("normalised", normalised.permute(1, 2, 0).numpy(), to_input(some, spec, CPU).numpy()),
    ]
):
    shown = axes[0, column].imshow(one.mean(axis=2), cmap="gray")
    figure.colorbar(shown, ax=axes[0, column])
    axes[0, column].set_title(name)
    axes[0, column].axis("off")
    axes[1, column].hist(many.ravel(), bins=40, color="#4477aa")
    axes[1, column].set(xlabel="value of a pixel", yticks=[])
plt.show()

say(
    f"Here the rounded mean is {spec.zero_point}, and the standard deviation is {1 / spec.scale:.1f}. A pixel of "
    f"{spec.zero_point} becomes zero; a pixel of 255 becomes {(255 - spec.zero_point) * spec.scale:.2f}. The toolkit "
    "stores both numbers in the model, so they cannot be forgotten later."
)

# %% [markdown]
# ## Augmentation
#
# More pictures would help, but we have no others. So each time the network sees a picture, the picture is changed a
# little at random: moved, turned, or partly covered. It still shows the same thing, but it is rarely the same table of
# numbers twice, so it is hard to memorise. This is called *augmentation*. Only training pictures are augmented.
#
# Each row shows one kind of change: first the original picture, then random versions of it. `flip` mirrors the picture,
# `crop` moves it, and `cutout` covers a square of it; the other names describe what they do. For each row, ask
# yourself: is the label still right? A mirrored cat is a cat, but a mirrored digit is no longer a digit. And if all
# shoes of a data set point in the same direction, mirrored shoes never occur. So the toolkit examines the data before
# it chooses.

# %%
few = data.train.images[:24].astype(int)
lopsided = np.abs(few - few[:, :, ::-1]).sum(axis=(1, 2, 3)).argmax()  # mirroring shows best on it
example = data.train.images[lopsided : lopsided + 1]
batch = to_input(np.repeat(example, 5, axis=0), spec, CPU)


def as_pictures(batch):
    """Convert normalised numbers back to pixels: uint8 (pictures, rows, columns, channels)."""
    pixels = batch / spec.scale + spec.zero_point
    return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


rows, captions = [], []
for name in AUGMENTATIONS:
    changed = augment(batch, [name], torch.Generator().manual_seed(1))
    rows.append(np.concatenate([example, as_pictures(changed)]))
    captions += ["original", *[name] * 5]
display(plots.grid(np.concatenate(rows), captions, "the same picture, changed at random", columns=6))

say(f"For this data the toolkit chooses: **{', '.join(settings.augment)}**.")

# %% [markdown]
# ## A network, layer by layer
#
# A network is a sequence of *layers*. Each layer takes numbers, computes new ones, and passes them to the next layer.
# Let us build a small network and follow one picture through it. The first layer is a convolution with several filters,
# so it computes several feature maps at once. These maps are the channels of the next layer's input. The numbers that
# training changes are called *parameters*. In a convolution they are the weights of the filters and the *biases*: a
# bias is a number that is added to all sums of a filter.
#
# Each filter looks at a window of three by three pixels (`kernel_size`). The picture gets a border of zeros
# (`padding`), so that the maps are as large as the picture.

# %%
torch.manual_seed(0)  # the same random weights in each run
one = to_input(data.train.images[:1], spec, CPU)
first = nn.Conv2d(spec.channels, 16, kernel_size=3, padding=1)  # channels in, feature maps out


def size_of(numbers):
    """The size of a layer's output for one picture, as text."""
    return "x".join(str(size) for size in numbers.shape[1:])


def parameters_of(layer):
    """The number of parameters, which training can change."""
    return sum(parameter.numel() for parameter in layer.parameters() if parameter.requires_grad)


say(
    f"Input: {size_of(one)} (channels, rows, columns). Output: {size_of(first(one))}, which is {first.out_channels} "
    f"feature maps. Parameters: {first.out_channels} filters of {first.weight[0].numel()} weights, and "
    f"{first.out_channels} biases; {parameters_of(first)} in total."
)

# %% [markdown]
# ReLU and max pooling follow; they have no parameters. Then comes a second convolution. Each of its filters looks at
# *all* maps of the first convolution at once, with a window of weights for each map. So it can find combinations: a
# vertical edge beside a horizontal edge is a corner. After pooling, the same window also covers a larger part of the
# picture. So the features become larger and more complex from layer to layer: edges, corners, collars, sleeves.
#
# At the end, a picture has become many small maps. `Flatten` writes their numbers in one long row. A *fully connected*
# layer (`Linear`) computes one number for each class from all of them: again products, a sum, and a bias. These numbers
# are called *logits*. The class with the largest logit is the network's answer.
#
# In the table, follow the size (maps, rows, columns): there are fewer and fewer rows and columns, and more and more
# maps.


# %%
def first_network():
    """Two convolutions and a fully connected layer, with random weights."""
    rest = (data.height // 4) * (data.width // 4)  # pixels of each map after two poolings
    return nn.Sequential(
        nn.Conv2d(spec.channels, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * rest, len(classes)),
    )


def layers_of(network):
    """Pass one picture through all layers, and return a table row for each."""
    numbers, rows = one, [{"layer": "the picture", "kind": "", "size": size_of(one), "parameters": ""}]
    for name, layer in network.eval().named_children():  # eval: the behaviour in use, not in training
        numbers = layer(numbers)
        count = parameters_of(layer)
        kind = type(layer).__name__
        learned = f"{count:,}" if count else ""
        rows.append({"layer": name, "kind": kind, "size": size_of(numbers), "parameters": learned})
    return rows


display(table(layers_of(first_network())))
say(f"In total: {parameters_of(first_network()):,} parameters.")

# %% [markdown]
# The toolkit's own networks are made of the same parts. The next table shows the network that we will train. Some of
# its layers are new:
#
# - `Shifts` (for large pictures `SpaceToDepth`) and `Whitening` prepare the pixels. They turn neighbouring pixels into
#   channels of one position, and remove what the neighbours have in common. Their weights are computed from the
#   training pictures, not learned; this makes training shorter.
# - `ConvNorm` is a convolution, a *batch normalisation* and a ReLU. These layers form *stages*; the first layer of each
#   stage also has a max pooling. Batch normalisation keeps the numbers of each map in the same range, which makes
#   learning easier for the next layer.
# - `GlobalMaxPool` keeps the largest number of each map: it says *whether* a feature occurs, not where.
# - `Dropout` can set numbers to zero at random during training, so that the network does not depend on any single
#   number. Here it is off.

# %%
network = build_network(
    settings.model, classes=len(classes), channels=spec.channels, size=(spec.height, spec.width), dropout=0
)
display(table(layers_of(network)))
say(f"**{settings.model}** has {parameters_of(network):,} parameters.")

# %% [markdown]
# ## Loss: how wrong is it?
#
# To improve a network, we must measure how wrong it is, with one number: the *loss*. First the logits are converted to
# *probabilities*: positive numbers that add up to one, the largest for the largest logit. (The function is called
# *softmax*.) Only one of them counts: the probability of the right class. The loss is its negative logarithm. This loss
# is called *cross-entropy*.
#
# Look at the curve. The loss is zero if the network is certain and right, small if it is uncertain, and large if it is
# certain and wrong. The dot is our untrained network on the first training picture.

# %%
torch.manual_seed(0)
untrained = first_network()
label = int(data.train.labels[0])
probabilities = untrained(one).softmax(dim=1)[0].detach()  # detach: only the numbers, without their gradients
loss = functional.cross_entropy(untrained(one), torch.tensor([label])).item()  # includes the softmax

figure, axes = plt.subplots(figsize=(5.5, 3), layout="constrained")
share = np.linspace(0.005, 1, 200)
axes.plot(share, -np.log(share), color="#4477aa")
axes.plot(probabilities[label], loss, "o", color="#ee6677", markersize=9, label="untrained network")
axes.set(xlabel="probability of the right class", ylabel="loss")
axes.legend()
axes.grid(alpha=0.3)
plt.show()

say(
    f"The right class is {classes[label]}. The untrained network gives it a probability of {probabilities[label]:.1%}, "
    f"which is close to guessing among {len(classes)} classes ({1 / len(classes):.1%}). The loss is {loss:.3f}; the "
    f"loss of guessing is {math.log(len(classes)):.3f}."
)

# %% [markdown]
# ## The optimiser: how does the network improve?
#
# For each parameter, PyTorch computes how fast the loss would rise or fall if the parameter grew a little. This number
# is called the *gradient*; the call `backward` computes it for all parameters at once. Then each parameter takes a
# small step in the direction in which the loss falls: the gradient is multiplied by a number called the *learning rate*
# and subtracted from the parameter. The *optimiser* does this; the simplest one is called `SGD`.
#
# It would take too long to use all training pictures for each step. So a step uses a few random ones: a *batch*. Its
# loss is the mean of the losses of its pictures. The loop below is the core of every training: predict, measure the
# loss, compute gradients, step.
#
# The cell runs it with several learning rates. The lines are rough, because every batch is different. With the smallest
# rate the loss falls slowly. With the middle rate it falls quickly. With the largest rate each step is too long, and
# the loss does not fall.

# %%
RATES = (0.003, 0.2, 2)


def losses_at(rate, steps=100):
    """Train the first network for some steps, and return the loss before each step."""
    torch.manual_seed(0)
    network, random, losses = first_network(), np.random.default_rng(0), []
    optimiser = torch.optim.SGD(network.parameters(), lr=rate)
    for _ in range(steps):
        chosen = random.integers(len(data.train.labels), size=64)
        pictures = to_input(data.train.images[chosen], spec, CPU)
        loss = functional.cross_entropy(network(pictures), torch.from_numpy(data.train.labels[chosen]))
        optimiser.zero_grad()  # forget the gradients of the last step
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
last = {}
for rate in RATES:
    losses = losses_at(rate)
    last[rate] = np.median(losses[-10:])
    axes.plot(losses, label=f"learning rate {rate}")
axes.set(xlabel="step", ylabel="loss of the batch", ylim=(0, 2 * math.log(len(classes))))
axes.legend()
axes.grid(alpha=0.3)
plt.show()

say(
    "Median loss of the last ten steps: " + ", ".join(f"{loss:.2f} at rate {rate}" for rate, loss in last.items()) + "."
)

# %% [markdown]
# The toolkit computes better steps. Its optimiser, Muon, makes all filters of a layer change at a similar speed. (Its
# learning rates are not comparable with those above.) Its learning rate also changes: it rises quickly, so that the
# first, unreliable steps are short, and then falls to zero, so that the last steps are small and precise.

# %%
rates = [settings.lr * learning_rate_factor(step, 1000) for step in range(1000)]
figure, axes = plt.subplots(figsize=(6, 2.4), layout="constrained")
axes.plot(np.linspace(0, 100, 1000), rates, color="#4477aa")
axes.set(xlabel="per cent of the training", ylabel="learning rate")
axes.grid(alpha=0.3)
plt.show()

say(f"For this data: optimiser {settings.optimizer}, highest rate {settings.lr:g}, batches of {settings.batch_size}.")

# %% [markdown]
# ## Training
#
# One pass over all training pictures is called an *epoch*. Training takes several epochs. After each one, the toolkit
# measures loss and accuracy on the validation pictures and updates the curves below (`on_epoch`). *Accuracy* is the
# share of pictures that get the right name. Watch the curves during training:
#
# - The loss should fall, and the accuracy should rise.
# - As long as the validation curves improve, it is worth continuing.
# - If the training curves improve while the validation curves get worse, the network has begun to memorise the training
#   pictures. This is called *overfitting*.
#
# Here validation is often better than training. That is expected: the training pictures are augmented, so they are
# harder. With large data sets the toolkit also saves time: early epochs use smaller pictures, and middle epochs leave
# out pictures that have become easy. The curves can jump where that begins or ends.
#
# The toolkit keeps the weights of the epoch whose probabilities fit the validation pictures best. This need not be the
# epoch with the highest accuracy. The cell also saves the test pictures as files, for later.

# %%
RUN, TEST_PICTURES = Path("runs/walkthrough"), Path("runs/test-pictures")

screen = display(plots.curves([]), display_id=True)
run = train(
    DATA,
    out=RUN,
    test_pictures=TEST_PICTURES,
    overwrite=True,
    on_epoch=lambda epochs: screen.update(plots.curves(epochs)),
)

kept = run.epochs[run.report["best_epoch"] - 1]
say(
    f"{len(run.epochs)} epochs took {run.report['seconds']:.0f} seconds. Epoch {kept.epoch} fits the validation "
    f"pictures best, with an accuracy of {kept.val_accuracy:.2%}; its weights are kept."
)

# %% [markdown]
# We do not use the test pictures yet. First we try other choices for the training.
#
# ## Choosing hyperparameters
#
# Training finds the parameters. Numbers that a person must choose before training are called *hyperparameters*:
#
# - **batch size** (`batch_size`): the number of pictures in a step. Small batches make many rough steps; large batches
#   make few smooth ones.
# - **learning rate** (`lr`): the length of the steps.
# - **epochs** (`epochs`): how long to train. If training is too short, the network has not learned enough; if it is too
#   long, it wastes time or overfits.
# - **depth** (`model`): the number of convolutions. A deeper network can learn more, but takes more time and memory.
# - **dropout** (`dropout`): the share of numbers that are set to zero. It reduces overfitting, but slows learning down.
#
# How do we choose? We try different values and compare them on the *validation* pictures. To try all combinations of
# some values is called a *grid search*. Ours is small: short trainings of small networks. We begin with batch size and
# learning rate, because they influence each other. The table grows as the trainings finish. The entry `nan` means that
# the steps were so long that the numbers became infinite.


# %%
def short_training(**choices):
    """Train with these choices, and return the validation accuracy and the seconds."""
    name = "-".join(f"{key}-{value:g}" if key != "model" else value for key, value in choices.items())
    try:
        found = train(DATA, out=f"runs/grid/{name}", overwrite=True, **choices)
    except DivergedError:  # the steps were so long that the numbers became infinite
        return {"accuracy": math.nan, "seconds": math.nan}
    return {"accuracy": found.report["validation"]["accuracy"], "seconds": found.report["seconds"]}


def try_all(choices):
    """Train with each of these choices, and show the table as it grows."""
    rows, screen = [], display(Markdown("…"), display_id=True)
    for chosen in choices:
        rows.append({**chosen, **short_training(**chosen)})
        shown = [{**row, "accuracy": f"{row['accuracy']:.2%}", "seconds": f"{row['seconds']:.1f}"} for row in rows]
        screen.update(table(shown))
    return rows


SIZES = [settings.batch_size // 2, settings.batch_size, 2 * settings.batch_size]
LEARNING_RATES = [settings.lr / 4, settings.lr, 4 * settings.lr]
pairs = itertools.product(SIZES, LEARNING_RATES)  # each batch size with each learning rate
first_grid = try_all({"model": "nano", "epochs": 3, "batch_size": size, "lr": rate} for size, rate in pairs)

# %% [markdown]
# The picture shows the same results: the darker a cell, the higher the accuracy. A larger batch often needs a larger
# learning rate, because there are fewer steps. If so, the dark cells form a diagonal.

# %%
accuracies = np.array([row["accuracy"] for row in first_grid]).reshape(len(SIZES), len(LEARNING_RATES))
figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
shown = axes.imshow(accuracies, cmap="Blues")
for (row, column), value in np.ndenumerate(accuracies):
    dark = value > (np.nanmin(accuracies) + np.nanmax(accuracies)) / 2
    axes.text(column, row, f"{value:.1%}", ha="center", va="center", color="white" if dark else "black")
axes.set_xticks(range(len(LEARNING_RATES)), [f"{rate:g}" for rate in LEARNING_RATES])
axes.set_yticks(range(len(SIZES)), SIZES)
axes.set(xlabel="learning rate", ylabel="batch size", title="accuracy on validation")
plt.show()

best = max(first_grid, key=lambda row: np.nan_to_num(row["accuracy"]))
say(
    f"The best of these is a batch size of {best['batch_size']} with a rate of {best['lr']:g}: {best['accuracy']:.2%}. "
    f"The defaults of the toolkit are {settings.batch_size} and {settings.lr:g}."
)

# %% [markdown]
# Next we try depth, dropout and epochs. Like most deep networks, the deeper one is also wider: its layers have more
# maps. In the picture, each colour is one network; a dashed line means dropout.

# %%
DEPTHS = {}
for model in ("nano", "small"):
    built = build_network(
        model, classes=len(classes), channels=spec.channels, size=(spec.height, spec.width), dropout=0
    )
    DEPTHS[model] = sum(type(layer).__name__ == "ConvNorm" for layer in built.children())
say("Convolutions with parameters: " + ", ".join(f"{count} in {model}" for model, count in DEPTHS.items()) + ".")

EPOCHS, DROPOUTS = (2, 4), (0.0, 0.3)
combinations = itertools.product(DEPTHS, DROPOUTS, EPOCHS)
second_grid = try_all({"model": model, "dropout": dropout, "epochs": epochs} for model, dropout, epochs in combinations)

# %%
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
for model, colour in zip(DEPTHS, ("#4477aa", "#ee6677"), strict=True):
    for dropout, style in zip(DROPOUTS, ("-", "--"), strict=True):
        chosen = [row for row in second_grid if row["model"] == model and row["dropout"] == dropout]
        values = [100 * row["accuracy"] for row in chosen]
        label = f"{DEPTHS[model]} convolutions, dropout {dropout:g}"
        axes.plot(EPOCHS, values, style, marker="o", color=colour, label=label)
axes.set(xlabel="epochs", ylabel="accuracy on validation (%)", xticks=EPOCHS)
axes.legend()
axes.grid(alpha=0.3)
plt.show()

best = max(second_grid, key=lambda row: np.nan_to_num(row["accuracy"]))
count = len(data.val.labels)
low, high = binomtest(round(best["accuracy"] * count), count).proportion_ci(method="wilson")
say(
    f"The best of these is {best['model']} with dropout {best['dropout']:g} and {best['epochs']} epochs: "
    f"{best['accuracy']:.2%}. But chance plays a part: with {count:,} validation pictures, the true accuracy is "
    f"between {low:.1%} and {high:.1%} (with 95% confidence). Smaller differences than that mean nothing here."
)

# %% [markdown]
# What do we learn from this?
#
# - Compare the two lines of one colour. Such short trainings hardly overfit, so dropout has little effect against it.
# - Compare the two ends of each line. More epochs help, but take more time (see the table).
# - A short training shows which choices are bad. It cannot decide between good ones: the best choice after a few epochs
#   need not be the best after many.
#
# The toolkit's defaults come from such comparisons with long trainings. So we keep the network that we have.
#
# ## Evaluation
#
# Now we use the test pictures, once. They played no part in training or in any decision.

# %%
test = run.report["test"]
low, high = test["accuracy_interval"]
say(
    f"**Accuracy: {test['accuracy']:.2%}.** Of {test['images']:,} test pictures, {test['correct']:,} get the right "
    f"name. With an unlimited number of such pictures, the accuracy would be between {low:.1%} and {high:.1%} (with "
    f"95% confidence). The loss is {test['loss']:.4f}; before training it was about {math.log(len(classes)):.2f}."
)

# %% [markdown]
# These are the curves of the whole training. The dotted line marks the epoch whose weights are kept.

# %%
display(plots.curves(run.epochs, kept=run.report["best_epoch"]))

# %% [markdown]
# Accuracy is one number for all classes. It does not show which classes are hard. Three numbers describe a single
# class:
#
# - **Precision**: of the pictures that *got* the name of this class, the share that belongs to it.
# - **Recall**: of the pictures that *belong* to this class, the share that got its name.
# - **F1**: one number for both: twice their product divided by their sum. It is closer to the smaller of the two.
#
# A network that calls every picture a shirt finds all shirts: for this class, its recall is perfect and its precision
# is poor. The table begins with the lowest F1.

# %%
per_class = sorted(test["per_class"].items(), key=lambda entry: entry[1]["f1"])
display(
    table(
        [
            {"class": name, **{key: f"{found[key]:.1%}" for key in ("precision", "recall")}, "F1": f"{found['f1']:.3f}"}
            for name, found in per_class
        ]
    )
)
confusion = np.array(test["confusion"])
hardest = classes.index(per_class[0][0])
right, named, there = confusion[hardest, hardest], confusion[:, hardest].sum(), confusion[hardest].sum()
say(
    f"The hardest class is **{classes[hardest]}**. {named} pictures got this name, and {right} of them belong to the "
    f"class: precision {right} / {named} = {right / named:.1%}. {there} pictures belong to the class, and {right} of "
    f"them got its name: recall {right} / {there} = {right / there:.1%}. The mean F1 of all classes, the macro F1, is "
    f"{test['macro_f1']:.3f}."
)

# %% [markdown]
# Which classes does the network confuse? The *confusion matrix* has a row for each true class and a column for each
# answer. The right answers are on the diagonal that begins at the upper left. All other cells are mistakes. The darker
# a cell, the larger its share of the row. Look for large numbers outside the diagonal.

# %%
display(plots.confusion(confusion, classes, f"{test['accuracy']:.2%} of {test['images']:,} test pictures right"))

mistakes = confusion - np.diag(np.diag(confusion))
true, answer = np.unravel_index(mistakes.argmax(), mistakes.shape)
say(
    f"The most frequent mistake: of {confusion[true].sum()} pictures of the class {classes[true]}, "
    f"{mistakes[true, answer]} got the name {classes[answer]}."
)

# %% [markdown]
# The next picture shows the mistakes with the highest probabilities. Above each picture are two lines: the true class,
# and the network's answer with its probability. Would you have known the right answer? Some pictures are hard for
# people as well, and some labels are simply wrong.

# %%
display(Image(run.path / "mistakes.png", width=900))

# %% [markdown]
# What features has the network learned? Below are one test picture and the feature maps with the largest numbers for
# it; brighter means larger. In the first stage you can still recognise the picture: edges, surfaces, background. Some
# layers later the maps are small, and each shows where some larger feature is. No person chose these features.


# %%
def scaled(maps):
    """Turn feature maps into pictures: zero is black, the largest value of each map is white."""
    return (255 * maps / maps.amax(dim=(1, 2), keepdim=True).clamp(min=1e-6)).byte().numpy()[..., None]


EARLY, DEEP = "stage1_1", "stage2_2"
trained = run.network()
numbers, stages = to_input(data.test.images[:1], run.spec, CPU), {}
with torch.no_grad():
    for name, layer in trained.named_children():
        # the layer also pools; we want the map before that
        before_pooling = functional.relu(layer.norm(layer.convolution(numbers)))[0] if name == EARLY else None
        numbers = layer(numbers)
        stages[name] = numbers[0] if before_pooling is None else before_pooling
display(plots.grid(data.test.images[:1], [classes[data.test.labels[0]]], "a test picture"))
for name in (EARLY, DEEP):
    busiest = stages[name].sum(dim=(1, 2)).argsort(descending=True)[:16]
    count, height, width = stages[name].shape
    heading = f"{name}: {len(busiest)} of its {count} feature maps, {height}x{width} each"
    display(plots.grid(scaled(stages[name][busiest]), [f"filter {index}" for index in busiest], heading))

# %% [markdown]
# ## Export
#
# So far the network runs in PyTorch, which is made for training and is too large for a small computer. So the toolkit
# writes the network to one file in a format that many programs can run, called *ONNX*. The file contains everything
# that is needed: the network, the normalisation, the class names, and the way to resize pictures.
#
# The same call also writes a second file, called *int8*, which is smaller and usually faster. A later section explains
# it. The toolkit tries several ways to make it, so the cell takes a moment.

# %%
result = export(run, quantize=True, search_seconds=20)
fp32 = run.path / "model.onnx"
int8 = run.path / result.int8.file

say(
    f"`{fp32.name}` has {fp32.stat().st_size / 1024:,.0f} KiB; `{int8.name}` has "
    f"{int8.stat().st_size / 1024:,.0f} KiB. The file to use on this machine is **`{result.ship.name}`**."
)

# %% [markdown]
# ## Parity: is it still the same network?
#
# A file that loads is not necessarily correct. An export can go wrong without an error; then the network is a little
# worse on the small computer than in training, and the reason is hard to find. So the export compares the file with
# PyTorch on every test picture, in batches of different sizes, because a file may be correct for one size only. If they
# do not agree, the export ends with an error and writes no file. Their agreement is called *parity*.

# %%
parity = result.parity
say(
    f"{parity.images:,} pictures, in batches of {', '.join(str(size) for size in parity.batch_sizes)}. The largest "
    f"difference of a probability is {parity.probabilities['max']:.1e}; up to {parity.tolerance:g} is allowed. "
    f"Pictures with a different answer: {len(parity.flips)}. Parity **{'passed' if parity.passed else 'FAILED'}**."
)

# %% [markdown]
# You can check this yourself on the first test pictures. The cell opens the file with plain ONNX Runtime, without the
# toolkit. Note that the file takes raw pixels and normalises them itself, while PyTorch needs normalised pixels.

# %%
some = data.test.images[:100]
with torch.no_grad():
    in_pytorch = (run.network()(to_input(some, run.spec, CPU)) / run.spec.temperature).softmax(dim=1).numpy()
session = onnxruntime.InferenceSession(fp32)
# the names of the wanted outputs, and the inputs by name
in_the_file = session.run(["probabilities"], {"image": np.ascontiguousarray(some)})[0]

say(f"Largest difference on {len(some)} pictures: {np.abs(in_pytorch - in_the_file).max():.1e}.")

# %% [markdown]
# (The *temperature* in that cell is a number that training fits to the validation pictures. The logits are divided by
# it. This makes the probabilities realistic: of the answers with a probability of nine in ten, about nine in ten should
# be right.)
#
# The file also contains a few test pictures and the probabilities that the model must give for them. So any computer
# can verify that it runs the model correctly. On the command line this is `cnn-infer --verify`.

# %%
replays = verify(Classifier(result.ship))
worst = max(replay.difference for replay in replays)
say(
    f"{sum(replay.passed for replay in replays)} of {len(replays)} pictures give the expected probabilities; the "
    f"largest difference is {worst:.1e}."
)

# %% [markdown]
# ## int8: smaller numbers
#
# The network's weights are numbers with many digits. Each takes four bytes. This format is called *fp32*, because it
# has thirty-two bits. Are so many digits necessary? In *int8*, each weight is a whole number that fits into one byte,
# multiplied by a step that all weights of a filter share. The numbers between the layers become bytes as well.
# Processors multiply whole numbers faster, and the file becomes smaller. This is called *quantisation*.
#
# The picture shows weights of one filter of our network: the original values, and the values rounded to the nearest
# step. The crosses are close to the dots.

# %%
weights = trained.get_submodule(DEEP).convolution.weight.detach()[0].flatten()
step = weights.abs().max() / 127  # the largest signed byte
rounded = (weights / step).round()

figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
axes.plot(weights[:60], "o", color="#4477aa", label="fp32")
axes.plot((rounded * step)[:60], "x", color="#ee6677", label="int8 times the step")
axes.set(xlabel="weight", ylabel="value")
axes.grid(alpha=0.3)
axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
plt.show()

error = (rounded * step - weights).abs().max()
say(
    f"The first weight is {weights[0]:.5f}; as int8 it is {rounded[0]:.0f} steps of {step:.5f}. No weight of this "
    f"filter changes by more than {error:.5f}."
)

# %% [markdown]
# Each rounding is a small error, and the errors add up over the layers. So int8 must prove that it is good enough. The
# toolkit made several int8 files in different ways and measured each one: how much accuracy does it lose on the
# validation pictures, and how much faster is it *on this machine*? In the picture, each dot is one of these files, and
# the star is the chosen one. Higher is faster; the solid horizontal line is the speed of fp32. Further left is more
# accurate; dots to the right of the dotted line lose too much. (A *point* is one picture in a hundred.)

# %%
display(Image(run.path / "candidates.png", width=600))

verdict = result.int8.verdict
say(f"The verdict: int8 **{'ships' if verdict.ships else 'does not ship'}**, because {verdict.reason}.")

# %% [markdown]
# The table compares the chosen int8 file with fp32. The accuracy is that of the test pictures, which influenced no
# choice. The times are those of the model alone on one thread; on a busy machine they vary.

# %%
change = result.int8.test
sizes = {"fp32": fp32, "int8": int8}
display(
    table(
        [
            {
                "": name,
                "accuracy": f"{getattr(change, f'accuracy_{name}'):.2%}",
                "macro F1": f"{getattr(change, f'macro_f1_{name}'):.4f}",
                "KiB": f"{file.stat().st_size / 1024:,.0f}",
                **{
                    f"ms, batch of {entry.batch_size}": f"{getattr(entry, f'{name}_ms'):.3f}"
                    for entry in result.int8.latency
                },
            }
            for name, file in sizes.items()
        ]
    )
)
low, high = change.drop_interval
say(
    f"int8 gives {change.flips} of {change.images:,} test pictures a different name than fp32: {change.lost} that were "
    f"right are wrong now, and {change.won} that were wrong are right now. So the accuracy falls by "
    f"{change.drop_points:.2f} points (with 95% confidence between {low:.2f} and {high:.2f}; below zero is a gain)."
)

# %% [markdown]
# ## Latency: how long does a picture take?
#
# *Latency* is the time from a picture's file to its name. One measurement says little: the first picture takes longer,
# and sometimes the computer is busy with something else. So the toolkit measures many pictures and reports
# *percentiles*: p50 is the time within which half of the pictures are done, p99 the time within which ninety-nine in a
# hundred are done.
#
# In the text below, `SingleStream` means one picture after the other, and `Offline` means as many at once as the
# machine can handle. The time is divided into stages: `read` reads the file, `decode` turns it into pixels, `resize`
# brings them to the network's size, and `model` runs the network. Look at the picture: which stage takes longest? The
# last line of the text says whether the machine was quiet enough for reliable figures.

# %%
measured = latency.measure(result.ship, [TEST_PICTURES])
print(latency.text(measured))

figure, axes = plt.subplots(figsize=(8, 1.5), layout="constrained")
start = 0
for number, (name, times) in enumerate(measured.stages.items()):
    axes.barh(0, times["p50"], left=start, label=name, color=plt.get_cmap("tab10")(number))
    start += times["p50"]
axes.set(xlabel="milliseconds (p50)", yticks=[])
axes.legend(ncols=len(measured.stages), loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
plt.show()

say(f"Measured on: {measured.machine}. {'**The machine was busy: measure again.**' if measured.noisy else ''}")

# %% [markdown]
# ## A folder of pictures
#
# Now we use the model for its purpose: to classify a folder of pictures without labels. We make such a folder from a
# few test pictures. Real folders are rarely clean, so we add a file that is not a picture.

# %%
INBOX = Path("runs/inbox")
shutil.rmtree(INBOX, ignore_errors=True)
INBOX.mkdir(parents=True)
for number, folder in enumerate(sorted(path for path in TEST_PICTURES.iterdir() if path.is_dir())):
    shutil.copy(min(folder.iterdir()), INBOX / f"{number}.png")
(INBOX / "broken.png").write_text("this is not a picture")

classifier = Classifier(result.ship)
rows = []
report = evaluate(classifier, [INBOX], on_row=rows.append)  # on_row is called with the answer for each file

good = [row for row in rows if row.prediction]
captions = [f"{row.prediction.label}\n{row.prediction.probability:.0%}" for row in good]
display(plots.grid(np.stack([classifier.pixels(row.path) for row in good]), captions, "what the model says"))
say(
    f"{report.images} files, {report.errors} of them unreadable. It did not stop the others: "
    + "; ".join(f"`{row.path}`: {row.error}" for row in rows if row.error)
)

# %% [markdown]
# If the folders of the pictures have the names of the classes, the toolkit uses these names as labels and computes the
# accuracy. Training saved the test pictures in such folders. Their accuracy must be the same as in the table above,
# although it is now computed from files and without PyTorch.

# %%
report = evaluate(classifier, [TEST_PICTURES])
expected = change.accuracy_int8 if verdict.ships else change.accuracy_fp32
say(
    f"{report.labelled:,} pictures, {report.images_per_second:,.0f} per second on {report.threads} threads. Accuracy "
    f"{report.accuracy:.2%}; the export reported {expected:.2%}. Macro F1 {report.macro_f1:.4f}."
)

# %% [markdown]
# On the small computer you would use the command `cnn-infer`. It needs no code and no PyTorch: you give it a folder,
# and it prints a row for each picture. The cell runs the command as you would in a terminal.


# %%
def cnn_infer(*arguments):
    """Run the command, and print the command line and its output."""
    print("$ cnn-infer", *arguments)
    command = [sys.executable, "-m", "cnn_infer", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(done.stdout + done.stderr)


cnn_infer(INBOX, "--model", result.ship)

# %% [markdown]
# The command can also write files for other programs: a table with a row for each picture, and a report with the
# figures. The cell prints the first lines of the table.

# %%
ROWS = "runs/rows.csv"
cnn_infer(TEST_PICTURES, "--model", result.ship, "--format", "csv", "--output", ROWS, "--report", "runs/report.json")
print(*Path(ROWS).read_text().splitlines()[:3], sep="\n")

# %% [markdown]
# ## Where to go from here
#
# - **Your own pictures.** Put them into one folder for each class, and set `DATA` at the top to the path of the folder
#   that holds these folders. A few hundred pictures for each class are a good start.
# - **A better network.** `train(DATA, model="base", epochs=...)` trains a larger network for longer.
#   `cnn_train.Options` lists all choices, and `cnn-train --help` explains each of them.
# - **The small computer.** Copy the file that the export recommends, and install only `cnn-infer`: it is small and
#   needs no PyTorch. Run `cnn-infer --verify --model model.onnx` once to make sure that the model gives the same
#   results there.
# - **Your own program.** `Classifier("model.onnx").predict("photo.jpg").label` is the whole program.

# %%
say(f"From the imports to here: {(time.perf_counter() - STARTED) / 60:.1f} minutes.")
