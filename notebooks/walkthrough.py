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
# You know some Python and nothing of neural networks: that is enough. In this notebook you train a network that names
# what a picture shows. Then you make it small and fast, and prove that it still computes what you trained.
#
# The kind of network is called a *CNN*, a convolutional neural network. What that means comes step by step.
#
# Run the cells from top to bottom, each with Shift+Enter. Every step has words, then code, then what comes out of it.
# You can change any number in the code; then run that cell and those below it again. Results go into a folder `runs`
# beside this notebook.
#
# ## Installing
#
# The first cell installs the toolkit, EdgeCNN, where it is missing. `SOURCE` says where its code is. The folder above
# this notebook is right if you have the whole repository. In Colab and Kaggle put the address of the repository there
# (it begins with `https://`), or the folder that you uploaded it to.

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
    print("installing; PyTorch is large, so this may take some minutes where it is missing")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted], check=True)
    importlib.invalidate_caches()
    print("EdgeCNN is installed.")

# %% [markdown]
# One variable chooses the pictures. `fashion-mnist` are small grey photographs of clothes. `digits` are tiny pictures
# of written digits, which need no download and take a fraction of the time. The name of a folder works as well, if it
# holds one folder of pictures for each class.

# %% tags=["parameters"]
DATA = "fashion-mnist"

# %% [markdown]
# The next cell imports what is used below. `cnn_train` trains, `cnn_export` turns the trained network into a file,
# and `cnn_infer` runs that file. PyTorch (`torch`) does the computing in training; its tables of numbers are called
# *tensors*. A few short functions show text and tables, and keep the toolkit's messages off the page.

# %%
import io
import itertools
import math
import shutil
import time
from contextlib import redirect_stderr

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import torch
from cnn_export import export
from cnn_infer import Classifier, evaluate, latency, verify
from cnn_infer.metrics import wilson_interval
from cnn_train import DataError, DivergedError, open_source, plots, prepare, train
from cnn_train.config import resolve
from cnn_train.network.build import build
from cnn_train.network.logits import to_input
from cnn_train.options import AUGMENTATIONS
from cnn_train.preparation import spec_of
from cnn_train.recipe.augment import augment
from cnn_train.recipe.fit import learning_rate_factor
from IPython.display import Image, Markdown, display
from sklearn.datasets import load_sample_image
from torch import nn
from torch.nn import functional

STARTED = time.perf_counter()
CPU = torch.device("cpu")
plt.rcParams["figure.dpi"] = 80  # small pictures make a small notebook


def say(text):
    """Show a text with its numbers filled in."""
    display(Markdown(text))


def table(rows):
    """A list of dictionaries, one a row, as a table."""
    lines = [rows[0].keys(), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return Markdown("\n".join("| " + " | ".join(str(value) for value in line) + " |" for line in lines))


def quiet():
    """Keep messages to a terminal off this page; errors still come through."""
    return redirect_stderr(io.StringIO())


# %% [markdown]
# ## What a picture is
#
# To a computer a picture is a table of numbers. Each number says how bright one spot is. A spot is called a *pixel*.
# A picture in colour is three such tables, its *channels*: red, green and blue. A grey one has one channel.
#
# Look at the red square in the photograph. On the right it is enlarged, with its numbers written into the pixels:
# large where it is bright, small where it is dark.
#
# (The photograph comes with scikit-learn. It is by danielbuechele, some rights reserved, under the licence [CC BY
# 2.0](https://creativecommons.org/licenses/by/2.0/); here it is cut, made grey, and filtered.)

# %%
photo = load_sample_image("china.jpg")[20:340, 60:380]  # the temple alone
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
# ## What a convolution sees
#
# A *convolution* looks at a picture through a small window. The window has numbers of its own, called *weights*.
# Together they are a *filter*. It works like this:
#
# - lay the window on a corner of the picture;
# - multiply each pixel by the weight that lies on it, and add up the products;
# - write down the sum, move the window by one pixel, and repeat until the whole picture is done.
#
# The sums make a new picture. It is called a *feature map*, because it shows where the picture has a certain feature.
#
# This filter has negative weights on its left and positive ones on its right. Where left and right are alike, the sum
# is near zero. At an upright edge it is not: it is positive where dark turns bright, negative where bright turns
# dark.
#
# The cell computes one sum by hand in the sky, and one at the edge of the dark part of the red square. PyTorch
# computes all of them (`conv2d`). Compare the columns of the table, and then its rows.

# %%
upright = torch.tensor(
    [
        [-1.0, 0.0, 1.0],
        [-2.0, 0.0, 2.0],  # the middle row counts double
        [-1.0, 0.0, 1.0],
    ]
)
picture = torch.tensor(grey, dtype=torch.float32)

# conv2d takes many pictures of many channels, and many filters; each None makes one into a list of one
feature_map = functional.conv2d(picture[None, None], upright[None, None])[0, 0]

rows = []
for place, down, right in [("sky", ROW, COLUMN), ("edge", ROW + 5, COLUMN + 3)]:
    window = picture[down : down + 3, right : right + 3]
    by_hand = (window * upright).sum()
    rows.append({"place": place, "sum by hand": f"{by_hand:.1f}", "by PyTorch": f"{feature_map[down, right]:.1f}"})
display(table(rows))

# %% [markdown]
# Other weights see other things. Below is what some filters make of the photograph. In those for edges, grey is a sum
# of zero, and bright and dark are sums far from it. Look at the walls of the temple in "upright edges", and at the
# steps and roofs in "level edges". The blur takes the mean of its window. The sharpener makes each pixel differ more
# from its neighbours.

# %%
FILTERS = {
    "upright edges": upright,
    "level edges": upright.T,  # the same, turned
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
# A network does not get its filters from a person. It begins with random weights, and *training* changes them until
# they are useful. We come to that.
#
# Two small steps usually follow a convolution:
#
# - *ReLU* replaces each negative number by zero. Without it, many convolutions would be worth no more than one large
#   one: sums of sums are only sums.
# - *Max pooling* keeps the largest number of each square of two by two and drops the others. The map becomes smaller;
#   what was found in it stays.
#
# Look at one roof of the temple. (The titles give the size of the whole map.) Zero is grey in the first picture and
# black in the others. After ReLU only the edges from dark to bright are left; after pooling they are coarser, but
# still there.

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
# A network learns from examples: pictures, each with the right answer. The possible answers are called *classes*; the
# right one for a picture is its *label*. The toolkit loads the set that `DATA` names. Where Fashion-MNIST is neither
# on this machine nor to be downloaded, the digits take its place, and the cell says so.

# %%
try:
    with quiet():
        data = prepare(open_source(DATA))
except DataError as problem:
    print(f"{problem}\nThis notebook goes on with the digits that come with scikit-learn.")
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
# - **train**: the network learns from these;
# - **validation**: we look at these while we decide something, such as when to stop;
# - **test**: nobody looks at these until the end. They say how good the network is on pictures that played no part in
#   its making.
#
# Why so strict? A network can learn its training pictures by heart. Then it is perfect on them and poor on all
# others. Only pictures that it has never seen can show that.

# %%
purposes = {"train": "to learn from", "val": "to decide by (validation)", "test": "to judge by, once, at the end"}
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
# The last two numbers matter: were one class much more frequent than another, the network would learn to name the
# frequent one too often. (`train(..., balance=True)` is for such sets.)
#
# Always look at your data before you train on it. Above each picture is its label. Is it right? Could you tell the
# classes apart yourself?

# %%
display(plots.grid(data.train.images[:24], [classes[label] for label in data.train.labels[:24]], "training pictures"))

# %% [markdown]
# ## Normalisation
#
# Networks learn best from numbers around zero that are neither large nor tiny: large ones make large sums, and then
# learning jumps. Pixels are not like that: none is negative, and many are large. So two numbers are taken from all
# training pictures: the *mean*, and the *deviation*, which says how far pixels usually lie from the mean. From each
# pixel the mean is taken away, and the rest is divided by the deviation. That is *normalisation*.
#
# It changes no picture to the eye. Compare the two pictures: they look the same. Then compare the numbers beside
# their colour bars. The two histograms below count how often each value occurs: again only the scale at the bottom
# differs.

# %%
settings = resolve({"data": DATA}, data)  # what the toolkit chooses for this data where nobody says otherwise
spec = spec_of(settings, data)  # how a picture becomes the network's input: size, mean, deviation
raw = data.train.images[0]
normalised = to_input(raw[None], spec, CPU)[0]  # takes many pictures; gives (channels, rows, columns)

figure, axes = plt.subplots(2, 2, figsize=(8, 5), layout="constrained", height_ratios=(3, 1.6))
some = data.train.images[:2000]
for column, (name, one, many) in enumerate(
    [
        ("as it is", raw, some),
        # permute: matplotlib wants the channels last
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
    f"Here the mean, rounded, is {spec.zero_point} and the deviation {1 / spec.scale:.1f}. A pixel of "
    f"{spec.zero_point} becomes zero, one of 255 becomes {(255 - spec.zero_point) * spec.scale:.2f}. The toolkit "
    "stores both numbers in the model, so they cannot be forgotten later."
)

# %% [markdown]
# ## Augmentation
#
# More pictures would help, but we have only these. So each time a picture is shown, it is changed a little at random:
# moved, turned, partly covered. It stays the same thing, but it is hardly ever twice the same table of numbers, and
# so it is hard to learn by heart. That is *augmentation*. Only training pictures are augmented.
#
# Each row shows one kind of change: first the picture itself, then random versions of it. `flip` mirrors, `crop`
# moves, and `cutout` covers a square; the other names say what they do. Ask yourself in each row: would I still give
# it the same name? A mirrored cat is a cat, but a mirrored digit is no longer a digit. And where all shoes of a set
# point the same way, no mirrored one will ever come. So the toolkit looks at the data before it chooses.

# %%
few = data.train.images[:24].astype(int)
lopsided = np.abs(few - few[:, :, ::-1]).sum(axis=(1, 2, 3)).argmax()  # so that the mirror can be seen
example = data.train.images[lopsided : lopsided + 1]
batch = to_input(np.repeat(example, 5, axis=0), spec, CPU)


def as_pictures(batch):
    """From normalised numbers back to pixels: uint8 (pictures, rows, columns, channels)."""
    pixels = batch / spec.scale + spec.zero_point
    return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


rows, captions = [], []
for name in AUGMENTATIONS:
    changed = augment(batch, [name], torch.Generator().manual_seed(1))
    rows.append(np.concatenate([example, as_pictures(changed)]))
    captions += ["as it is", *[name] * 5]
display(plots.grid(np.concatenate(rows), captions, "the same picture, changed at random", columns=6))

say(f"For this data the toolkit chooses: **{', '.join(settings.augment)}**.")

# %% [markdown]
# ## A network, layer by layer
#
# A network is a row of *layers*. Each layer takes numbers, computes, and hands its numbers to the next. Let us build
# a small one and follow one picture through it. The first layer is a convolution with several filters, so it makes
# several feature maps at once. They are the channels of the next layer's input. The numbers that training will change
# are called *parameters*: here, the weights of the filters, and for each filter a number that is added to its sums,
# its *bias*.
#
# Each filter looks at a window of three by three pixels (`kernel_size`). So that the maps are as large as the
# picture, the picture gets an edge of zeros (`padding`).

# %%
torch.manual_seed(0)  # the same random weights in each run
one = to_input(data.train.images[:1], spec, CPU)
first = nn.Conv2d(spec.channels, 16, kernel_size=3, padding=1)  # channels in, feature maps out


def size_of(numbers):
    """The size of what a layer gives for one picture, in words."""
    return "x".join(str(size) for size in numbers.shape[1:])


def parameters_of(layer):
    """How many numbers training can change."""
    return sum(parameter.numel() for parameter in layer.parameters() if parameter.requires_grad)


say(
    f"In: {size_of(one)} (channels, rows, columns). Out: {size_of(first(one))}, that is {first.out_channels} feature "
    f"maps. Parameters: {first.out_channels} filters of {first.weight[0].numel()} weights, and {first.out_channels} "
    f"biases: {parameters_of(first)}."
)

# %% [markdown]
# ReLU and max pooling follow; they have nothing to learn. Then a second convolution. Each of its filters looks at
# *all* maps of the first one at once, with a window of weights for each map. So it can find combinations: an upright
# edge beside a level one is a corner. And after pooling the same window covers more of the picture. So layer by layer
# the features become larger and richer: edges, corners, collars, sleeves.
#
# At the end each picture is many small maps. They are laid out in one long row (`Flatten`), and a *fully connected*
# layer (`Linear`) makes one number for each class from all of them: again products, a sum, a bias. These numbers are
# called *logits*. The class with the largest one is the network's answer.
#
# In the table, follow the size (maps, rows, columns): rows and columns become fewer, maps become more.


# %%
def first_network():
    """Two convolutions and a fully connected layer, with random weights."""
    rest = (data.height // 4) * (data.width // 4)  # what two poolings leave of each map
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
    """A table row for each layer: one picture goes through all of them."""
    numbers, rows = one, [{"layer": "the picture", "kind": "", "size": size_of(one), "parameters": ""}]
    for name, layer in network.eval().named_children():  # eval: as in use, not as in training
        numbers = layer(numbers)
        count = parameters_of(layer)
        kind = type(layer).__name__
        learned = f"{count:,}" if count else ""
        rows.append({"layer": name, "kind": kind, "size": size_of(numbers), "parameters": learned})
    return rows


display(table(layers_of(first_network())))
say(f"All together: {parameters_of(first_network()):,} parameters.")

# %% [markdown]
# The toolkit's own networks are made of the same parts. This is the one that we shall train. What is new in it:
#
# - `Shifts` (with large pictures `SpaceToDepth`) and `Whitening` prepare the pixels. Neighbours become channels of
#   one spot, and what they have in common is taken out. This is computed from the training pictures, not learned; it
#   makes the training shorter.
# - `ConvNorm` is a convolution, a *batch normalisation* and a ReLU. These layers come in *stages*; the first of each
#   stage has a max pooling as well. Batch normalisation keeps the numbers of each map in the same range, so that the
#   next layer can rely on it.
# - `GlobalMaxPool` keeps the largest number of each map: *whether* a feature is there, not where.
# - `Dropout` sets numbers to zero at random during training, if it is asked to. Then the network cannot rely on a
#   single one. Here it is off.

# %%
network = build(settings.model, classes=len(classes), channels=spec.channels, size=(spec.height, spec.width), dropout=0)
display(table(layers_of(network)))
say(f"**{settings.model}** has {parameters_of(network):,} parameters.")

# %% [markdown]
# ## Loss: how wrong is it?
#
# To become better, the network must know how wrong it is: as one number, the *loss*. First the logits become
# *probabilities*: positive numbers that add up to one, the largest for the largest logit. (The function is called
# *softmax*.) Then only one of them counts, the one that the network gives to the right class. The loss is the
# negative logarithm of it. It is called *cross-entropy*.
#
# Look at the curve: sure and right costs nothing; unsure costs some; sure and wrong costs very much. The dot is our
# untrained network, on the first training picture.

# %%
torch.manual_seed(0)
untrained = first_network()
label = int(data.train.labels[0])
probabilities = untrained(one).softmax(dim=1)[0].detach()  # detach: the numbers, not how they came about
loss = functional.cross_entropy(untrained(one), torch.tensor([label])).item()  # with its own softmax

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
    f"little more or less than by guessing among {len(classes)} classes ({1 / len(classes):.1%}). The loss is "
    f"{loss:.3f}; guessing has {math.log(len(classes)):.3f}."
)

# %% [markdown]
# ## The optimiser: how does it become better?
#
# For each parameter one can compute how fast the loss would rise or fall if the parameter grew a little. This is
# called the *gradient*; PyTorch computes it for all parameters at once (`backward`). Then each parameter takes a
# small step in the direction in which the loss falls: the gradient, times a number called *learning rate*, is taken
# away from it. Doing that is the job of the *optimiser*; this plain one is called `SGD`.
#
# All training pictures at once would be too many for each step. So a step takes a few at random: a *batch*. Its loss
# is the mean of theirs. The loop below is the heart of every training: predict, measure the loss, compute gradients,
# step.
#
# It is run with several learning rates. Look at the lines; they are rough, since every batch is different. The
# smallest rate is slow. The middle one brings the loss down. The largest one jumps too far, again and again, and does
# not arrive.

# %%
RATES = (0.003, 0.2, 2)


def losses_at(rate, steps=100):
    """Train the first network for some steps; the loss before each."""
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
# The toolkit takes more refined steps. Its optimiser, Muon, sees to it that all filters of a layer change at a
# similar pace. (Its rates have another meaning than those above.) And its learning rate is not constant: it rises
# quickly, so that the first, wild steps are short, and then falls to zero, so that the last ones are fine.

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
# One pass over all training pictures is an *epoch*. A training has several. After each one the network is tried on
# the validation pictures, and the curves below are drawn anew (`on_epoch`). Watch them while it runs:
#
# - **loss** should fall, **accuracy**, the share of pictures that are named right, should rise;
# - as long as the validation curve gets better, it is worth going on;
# - if the training curve gets better while validation gets worse, the network has begun to learn by heart:
#   *overfitting*.
#
# Here validation is often better than training. That is as it should be: the training pictures are augmented, and so
# they are harder. With large sets the toolkit also saves time: early epochs show smaller pictures, and middle ones
# leave out what is easy by then. The curves can jump where that begins or ends.
#
# The epoch is kept whose probabilities fit validation best, which need not be the one with the most pictures right.
# The cell also writes the test pictures as files, for later.

# %%
RUN, TEST_PICTURES = Path("runs/walkthrough"), Path("runs/test-pictures")

screen = display(plots.curves([]), display_id=True)
with quiet():
    run = train(
        DATA,
        out=RUN,
        test_pictures=TEST_PICTURES,
        overwrite=True,
        on_epoch=lambda epochs: screen.update(plots.curves(epochs)),
    )

kept = run.epochs[run.report["best_epoch"] - 1]
say(
    f"{len(run.epochs)} epochs took {run.report['seconds']:.0f} seconds. Epoch {kept.epoch} fits "
    f"validation best, with {kept.val_accuracy:.2%} right; its weights are kept."
)

# %% [markdown]
# Not a word yet about the test pictures: first we look at what could have been chosen otherwise.
#
# ## Choosing hyperparameters
#
# Training finds the parameters. What a person must choose before are the *hyperparameters*:
#
# - **batch size** (`batch_size`): pictures to a step. Small batches make many rough steps, large ones few smooth
#   ones.
# - **learning rate** (`lr`): the length of the steps.
# - **epochs** (`epochs`): how long to train. Too short, and it has not learned enough; too long, and it wastes time
#   or overfits.
# - **depth** (`model`): how many convolutions. A deeper network can learn more, and costs more time and memory.
# - **dropout** (`dropout`): the share of numbers that are set to zero. It helps against overfitting, and slows
#   learning down.
#
# How does one choose? By trying, and comparing on *validation* pictures. Trying all combinations of some values is
# called a *grid*. Ours is small: short trainings of small networks. First batch size and learning rate, since these
# two belong together. The table grows as the trainings finish. Where it says `nan`, the steps were so long that the
# numbers became infinite.


# %%
def short_training(**choices):
    """Train with these choices; what they gave on validation."""
    name = "-".join(f"{key}-{value:g}" if key != "model" else value for key, value in choices.items())
    try:
        with quiet():
            found = train(DATA, out=f"runs/grid/{name}", overwrite=True, **choices)
    except DivergedError:  # steps so long that the numbers became infinite
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
pairs = itertools.product(SIZES, LEARNING_RATES)  # each size with each rate
first_grid = try_all({"model": "nano", "epochs": 3, "batch_size": size, "lr": rate} for size, rate in pairs)

# %% [markdown]
# The same as a picture: the darker, the better. Look for the dark cells. A larger batch often wants a larger rate,
# since it makes fewer steps; then the dark cells lie along a slope.

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
    f"Left alone, the toolkit takes {settings.batch_size} and {settings.lr:g}."
)

# %% [markdown]
# Now depth, dropout and epochs. The deeper network is also wider, as deep ones mostly are: its layers have more maps.
# In the picture each colour is one network; dashed is with dropout.

# %%
DEPTHS = {}
for model in ("nano", "small"):
    built = build(model, classes=len(classes), channels=spec.channels, size=(spec.height, spec.width), dropout=0)
    DEPTHS[model] = sum(type(layer).__name__ == "ConvNorm" for layer in built.children())
say("Convolutions that learn: " + ", ".join(f"{count} in {model}" for model, count in DEPTHS.items()) + ".")

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
low, high = wilson_interval(round(best["accuracy"] * count), count)
say(
    f"The best of these is {best['model']} with dropout {best['dropout']:g} and {best['epochs']} epochs: "
    f"{best['accuracy']:.2%}. But mind chance: with {count:,} validation pictures, the true share lies between "
    f"{low:.1%} and {high:.1%} (with 95% certainty). What differs by less than that cannot be told apart here."
)

# %% [markdown]
# What to take from this:
#
# - Compare the two lines of one colour. In trainings this short there is hardly any overfitting, so dropout has
#   little to help against.
# - Compare the two ends of each line: more epochs help, and cost their time (see the table).
# - A short training shows which choices are bad. It cannot decide between good ones. What wins after a few epochs
#   need not win after many.
#
# The toolkit's own choices come from such comparisons, on long trainings. So we keep the network that we have.
#
# ## Evaluation
#
# Now, once, the test pictures: pictures that played no part in training and in no decision.

# %%
test = run.report["test"]
low, high = test["accuracy_interval"]
say(
    f"**Accuracy: {test['accuracy']:.2%}.** Of {test['images']:,} test pictures {test['correct']:,} are named right. "
    f"Were it tried on endlessly many such pictures, the share would lie between {low:.1%} and {high:.1%} (with 95% "
    f"certainty). The loss is {test['loss']:.4f}; untrained it was about {math.log(len(classes)):.2f}."
)

# %% [markdown]
# These are the curves of the whole training. The dotted line is the epoch whose weights were kept.

# %%
display(plots.curves(run.epochs, kept=run.report["best_epoch"]))

# %% [markdown]
# Accuracy is one number for all classes. It hides which classes are hard. Three numbers say more about one class:
#
# - **Precision**: of the pictures that *were given* this name, what share deserves it?
# - **Recall**: of the pictures that *deserve* this name, what share was given it?
# - **F1**: one number for both, twice their product divided by their sum. It is closer to the smaller of the two.
#
# A network that calls everything a shirt finds all shirts: its recall is perfect and its precision poor. The table
# begins with the lowest F1.

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
    f"The hardest class is **{classes[hardest]}**. {named} pictures were given this name, {right} of them rightly: "
    f"precision {right} / {named} = {right / named:.1%}. {there} pictures deserve it, {right} were found: recall "
    f"{right} / {there} = {right / there:.1%}. The mean F1 of all classes, the macro F1, is "
    f"{test['macro_f1']:.3f}."
)

# %% [markdown]
# Which classes are taken for which? The *confusion matrix* has a row for each true class and a column for each
# answer. On the diagonal, from the upper left, are the right answers. Everything beside it is a mistake. The darker a
# cell, the larger its share of the row. Look for the large numbers beside the diagonal.

# %%
display(plots.confusion(confusion, classes, f"{test['accuracy']:.2%} of {test['images']:,} test pictures right"))

mistakes = confusion - np.diag(np.diag(confusion))
true, said = np.unravel_index(mistakes.argmax(), mistakes.shape)
say(
    f"The most frequent mistake: of {confusion[true].sum()} pictures of the class {classes[true]}, "
    f"{mistakes[true, said]} were taken for {classes[said]}."
)

# %% [markdown]
# And now the mistakes themselves: those that the network was most sure of. Above each picture are two lines: the true
# class, and the answer with its probability. Would you have known better? Some pictures are hard for people as well,
# and some labels are simply wrong.

# %%
display(Image(run.path / "mistakes.png", width=900))

# %% [markdown]
# What has the network learned to see? Here is one test picture, and what the filters that answer it most make of it:
# the brighter, the larger. In the first stage you still recognise the picture: edges, surfaces, background. Some
# layers further on the maps are small, and each says where some larger feature is; no person chose which.


# %%
def scaled(maps):
    """Feature maps, one picture each, from black at zero to white at their largest value."""
    return (255 * maps / maps.amax(dim=(1, 2), keepdim=True).clamp(min=1e-6)).byte().numpy()[..., None]


EARLY, DEEP = "stage1_1", "stage2_2"
trained = run.network()
numbers, stages = to_input(data.test.images[:1], run.spec, CPU), {}
with torch.no_grad():
    for name, layer in trained.named_children():
        # the layer pools as well; this is its map before
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
# So far the network lives in PyTorch, which is made for training, and too large for a small computer. So the network
# is written into one file, in a format that many programs can run: *ONNX*. Everything that is needed travels inside:
# normalisation, class names, how to resize.
#
# The same call also makes a second file, called *int8*, which is smaller and usually faster. What that is comes
# below. Several ways to make it are tried; this takes a moment.

# %%
with quiet():
    result = export(run, quantize=True, search_seconds=20)
fp32 = run.path / "model.onnx"
int8 = run.path / result.int8.file

say(
    f"`{fp32.name}` has {fp32.stat().st_size / 1024:,.0f} KiB, `{int8.name}` {int8.stat().st_size / 1024:,.0f} KiB. "
    f"The file to use on this machine is **`{result.ship.name}`**."
)

# %% [markdown]
# ## Parity: is it still the same network?
#
# A file that loads is not yet a file that is right. An export can go wrong quietly, and then the network is a little
# worse on the small computer than it was in training, and nobody knows why. So the export compares: every test
# picture goes through PyTorch and through the file, in batches of different sizes, since a file may be right for one
# size only. If they do not agree, there is no file, but an error. That they agree is called *parity*.

# %%
parity = result.parity
say(
    f"{parity.images:,} pictures, in batches of {', '.join(str(size) for size in parity.batch_sizes)}. The largest "
    f"difference of a probability is {parity.probabilities['max']:.1e}; up to {parity.tolerance:g} is allowed. "
    f"Pictures that got another name: {len(parity.flips)}. Parity **{'passed' if parity.passed else 'FAILED'}**."
)

# %% [markdown]
# You need not believe it: here is the comparison by hand, on the first test pictures. The file is opened with plain
# ONNX Runtime, without the toolkit. Note what it takes: raw pixels. PyTorch needs normalised ones; the file
# normalises by itself.

# %%
some = data.test.images[:100]
with torch.no_grad():
    in_pytorch = (run.network()(to_input(some, run.spec, CPU)) / run.spec.temperature).softmax(dim=1).numpy()
session = onnxruntime.InferenceSession(fp32)
# the outputs that are wanted, and the inputs by their names
in_the_file = session.run(["probabilities"], {"image": np.ascontiguousarray(some)})[0]

say(f"Largest difference on {len(some)} pictures: {np.abs(in_pytorch - in_the_file).max():.1e}.")

# %% [markdown]
# (The *temperature* in that cell is one more number that training finds, on validation. The logits are divided by it.
# That makes the probabilities honest: of the answers with a probability of nine in ten, about nine in ten shall be
# right.)
#
# A few test pictures travel inside the file, with the answers that are expected. So it can prove itself on any
# computer. On the command line this is `cnn-infer --verify`.

# %%
replays = verify(Classifier(result.ship))
worst = max(replay.difference for replay in replays)
say(
    f"{sum(replay.passed for replay in replays)} of {len(replays)} pictures give what they must; the largest "
    f"difference is {worst:.1e}."
)

# %% [markdown]
# ## int8: smaller numbers
#
# The network's weights are numbers with many digits, four bytes each. This is called *fp32*, for its thirty-two bits.
# Are so many digits needed? In *int8* each weight is a whole number that fits into one byte, times a step that all
# weights of a filter share. The numbers between the layers become bytes as well. Whole numbers are quicker to
# multiply, and the file shrinks. This is called *quantisation*.
#
# The picture shows weights of one filter of our network: before, and rounded to the nearest step. Look how close the
# crosses are to the dots.

# %%
weights = trained.get_submodule(DEEP).convolution.weight.detach()[0].flatten()
step = weights.abs().max() / 127  # a signed byte goes up to 127
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
    f"filter moves by more than {error:.5f}."
)

# %% [markdown]
# Each rounding is a small error, and the errors add up over the layers. So int8 has to earn its place. The toolkit
# made several int8 files, in different ways, and tried each on the validation pictures: how much accuracy does it
# lose, and how much faster is it *here*, on this machine? In the picture each dot is one of them, and the star is the
# chosen one. Further up is faster; the solid line across is the speed of fp32. Further left is better; dots to the
# right of the dotted line lose too much. (A *point* is one picture in a hundred.)

# %%
display(Image(run.path / "candidates.png", width=600))

verdict = result.int8.verdict
say(f"The verdict: int8 **{'ships' if verdict.ships else 'does not ship'}**, because {verdict.reason}.")

# %% [markdown]
# Here is the chosen one beside fp32. The accuracy is on the test pictures, which nothing was chosen by. The times are
# of the model alone, on one thread; on a busy machine they vary.

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
    f"int8 gives {change.flips} of {change.images:,} test pictures another name than fp32: {change.lost} that were "
    f"right are wrong now, and {change.won} that were wrong are right now. So the accuracy falls by "
    f"{change.drop_points:.2f} points (with 95% certainty between {low:.2f} and {high:.2f}; below zero is a gain)."
)

# %% [markdown]
# ## Latency: how long does a picture take?
#
# *Latency* is the time from a picture's file to its name. One measurement says little: the first picture takes
# longer, and now and then the computer has something else to do. So many pictures are measured, and the result is
# given as *percentiles*: p50 is the time that half of the pictures need at most, p99 the time that ninety-nine in a
# hundred need at most.
#
# In the text, `SingleStream` is one picture after the other, and `Offline` as many at once as the machine can do. The
# time is divided into parts: `read` gets the file, `decode` makes pixels of it, `resize` gives them the network's
# size, and `model` is the network. Look at the picture: which is the longest? The last line of the text says whether
# the machine was quiet enough for the figures to mean something.

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
# This is what it was all for: a folder with pictures that nobody has named. Let us make one, from a few test
# pictures. And since real folders are never clean, one file in it is no picture at all.

# %%
INBOX = Path("runs/inbox")
shutil.rmtree(INBOX, ignore_errors=True)
INBOX.mkdir(parents=True)
for number, folder in enumerate(sorted(path for path in TEST_PICTURES.iterdir() if path.is_dir())):
    shutil.copy(min(folder.iterdir()), INBOX / f"{number}.png")
(INBOX / "broken.png").write_text("this is not a picture")

classifier = Classifier(result.ship)
rows = []
report = evaluate(classifier, [INBOX], on_row=rows.append)  # on_row is called with each file's answer

good = [row for row in rows if row.prediction]
captions = [f"{row.prediction.label}\n{row.prediction.probability:.0%}" for row in good]
display(plots.grid(np.stack([classifier.pixels(row.path) for row in good]), captions, "what the model says"))
say(
    f"{report.images} files, {report.errors} of them unreadable. That one did not stop the others: "
    + "; ".join(f"`{row.path}`: {row.error}" for row in rows if row.error)
)

# %% [markdown]
# If pictures lie in folders that are named as the classes, the toolkit takes the folders for the truth and computes
# the accuracy. The test pictures lie so; training wrote them as files. Their accuracy must be that of the table
# above, though here it is computed from files and without PyTorch.

# %%
report = evaluate(classifier, [TEST_PICTURES])
expected = change.accuracy_int8 if verdict.ships else change.accuracy_fp32
say(
    f"{report.labelled:,} pictures, {report.images_per_second:,.0f} a second on {report.threads} threads. Accuracy "
    f"{report.accuracy:.2%}; the export said {expected:.2%}. Macro F1 {report.macro_f1:.4f}."
)

# %% [markdown]
# On the small computer you would use the command `cnn-infer`. You write no code for it, and it needs no PyTorch: a
# folder goes in, a row for each picture comes out. The cell starts it as you would in a terminal.


# %%
def cnn_infer(*arguments):
    """Run the command, and show what was typed and what it said."""
    print("$ cnn-infer", *arguments)
    command = [sys.executable, "-m", "cnn_infer", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(done.stdout + done.stderr)


cnn_infer(INBOX, "--model", result.ship)

# %% [markdown]
# It also writes files for other programs: a table with a row for each picture, of which the first lines are shown,
# and a report with the figures.

# %%
ROWS = "runs/rows.csv"
cnn_infer(TEST_PICTURES, "--model", result.ship, "--format", "csv", "--output", ROWS, "--report", "runs/report.json")
print(*Path(ROWS).read_text().splitlines()[:3], sep="\n")

# %% [markdown]
# ## Where to go from here
#
# - **Your own pictures.** Put them into one folder for each class, and write the name of the folder that holds these
#   into `DATA` at the top. A few hundred pictures for each class are a beginning.
# - **A better network.** `train(DATA, model="base", epochs=...)` trains a larger one for longer. The class `Config`
#   in `cnn_train.config` lists all that can be chosen.
# - **On the small computer.** Copy the file that ships. Install `cnn-infer` alone: it is small and needs no PyTorch.
#   Run `cnn-infer --verify --model model.onnx` once, so that you know that it computes there what it computed here.
# - **In your own program.** `Classifier("model.onnx").predict("photo.jpg").label` is the whole program.

# %%
say(f"From the imports to here: {(time.perf_counter() - STARTED) / 60:.1f} minutes.")
