"""What each augmentation does to a picture, by references that share no code with it."""

import numpy as np
import pytest
import torch
from cnn_train.options import AUGMENTATIONS
from cnn_train.recipe.augment import MAX_DEGREES, MIN_ZOOM_PART, augment
from scipy import ndimage, optimize
from torch import Tensor


def pictures(count: int, channels: int, height: int, width: int) -> Tensor:
    """Channels last in memory, as in training; no value is zero, which is what cutout blanks with."""
    values = torch.rand(count, height, width, channels, generator=torch.Generator().manual_seed(1)) + 0.5
    return values.permute(0, 3, 1, 2)


def changed(batch: Tensor, *names: str, seed: int = 0) -> Tensor:
    return augment(batch, names, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_type_and_layout_stay_and_the_generator_decides(name: str, channels: int) -> None:
    batch = pictures(16, channels, 14, 20)
    before = batch.clone()
    first, again, other = changed(batch, name), changed(batch, name), changed(batch, name, seed=1)
    assert first.shape == batch.shape
    assert first.dtype == torch.float32
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(batch, before)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_picture_has_random_numbers_of_its_own(name: str) -> None:
    batch = pictures(1, 3, 24, 24).expand(64, -1, -1, -1)
    found = {picture.numpy().tobytes() for picture in changed(batch, name)}
    assert len(found) == 2 if name == "flip" else len(found) > 8


def test_nothing_is_done_where_nothing_is_asked_for() -> None:
    batch = pictures(4, 3, 8, 8)
    assert torch.equal(changed(batch), batch)


def test_the_order_of_the_names_does_not_matter() -> None:
    batch = pictures(8, 3, 16, 16)
    assert torch.equal(changed(batch, *AUGMENTATIONS), changed(batch, *reversed(AUGMENTATIONS)))
    assert not torch.equal(changed(batch, *AUGMENTATIONS), changed(batch, *AUGMENTATIONS[:-1]))


def test_flip_mirrors_half_of_the_pictures_left_to_right() -> None:
    batch = pictures(400, 3, 6, 9)
    mirrored = 0
    for before, after in zip(batch.numpy(), changed(batch, "flip").numpy(), strict=True):
        if not np.array_equal(before, after):
            assert np.array_equal(np.fliplr(before.transpose(1, 2, 0)).transpose(2, 0, 1), after)
            mirrored += 1
    assert 150 < mirrored < 250


@pytest.mark.parametrize(("height", "width", "reach"), [(8, 8, 1), (28, 28, 2), (24, 60, 2), (48, 36, 3)])
def test_crop_moves_by_up_to_a_twelfth_and_mirrors_the_edge(height: int, width: int, reach: int) -> None:
    batch = pictures(300, 2, height, width)
    moves = []
    for before, after in zip(batch.numpy(), changed(batch, "crop").numpy(), strict=True):
        filled = np.pad(before, ((0, 0), (reach, reach), (reach, reach)), mode="reflect")
        matching = [
            (down - reach, across - reach)
            for down in range(2 * reach + 1)
            for across in range(2 * reach + 1)
            if np.array_equal(filled[:, down : down + height, across : across + width], after)
        ]
        assert len(matching) == 1
        moves += matching
    assert len(set(moves)) > 0.9 * (2 * reach + 1) ** 2
    assert {down for down, _ in moves} == {across for _, across in moves} == set(range(-reach, reach + 1))


@pytest.mark.parametrize(("height", "width"), [(21, 21), (20, 32)])
def test_zoom_enlarges_a_part_of_the_picture_without_distortion(height: int, width: int) -> None:
    """Each pixel holds its own row and column, which bilinear sampling gives back exactly."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    batch = torch.stack([rows, columns]).float().expand(300, -1, -1, -1)
    parts, places = [], []
    for after in changed(batch, "zoom").double().numpy()[:, :, 1:-1, 1:-1]:  # within the mirrored edge
        (down, across) = (np.diff(after[0], axis=0), np.diff(after[1], axis=1))
        assert np.ptp([*down.ravel(), *across.ravel()]) < 1e-4
        assert np.ptp(after[0], axis=1).max() < 1e-4
        assert np.ptp(after[1], axis=0).max() < 1e-4
        parts.append(down.mean())
        for values, side in ((after[0], height), (after[1], width)):
            # half a pixel beyond the outermost centres, and the pixel that was left out
            low, high = values.min() - 1.5 * parts[-1], values.max() + 1.5 * parts[-1]
            assert -0.5 - 1e-3 <= low < high <= side - 0.5 + 1e-3
            places.append((low + 0.5) / (side - (high - low)) if parts[-1] < 0.9 else 0.5)
    assert MIN_ZOOM_PART <= min(parts) < MIN_ZOOM_PART + 0.05
    assert 0.95 < max(parts) <= 1
    assert min(places) < 0.05
    assert max(places) > 0.95


@pytest.mark.parametrize(("height", "width"), [(21, 21), (20, 32)])
def test_rotate_turns_about_the_centre_without_distortion(height: int, width: int) -> None:
    batch = pictures(12, 1, height, width)
    batch = torch.from_numpy(ndimage.gaussian_filter(batch.numpy(), (0, 0, 1, 1)))
    centre = np.array([(height - 1) / 2, (width - 1) / 2])

    def turned(picture: np.ndarray, degrees: float) -> np.ndarray:
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        matrix = np.array([[cosine, sine], [-sine, cosine]])
        offset = centre - matrix @ centre
        return ndimage.affine_transform(picture, matrix, offset, order=1, mode="reflect")

    angles = []
    for before, after in zip(batch.numpy()[:, 0], changed(batch, "rotate").numpy()[:, 0], strict=True):

        def difference(degrees: float, before: np.ndarray = before, after: np.ndarray = after) -> float:
            return float(np.abs(turned(before, degrees) - after).mean())

        start = min(np.arange(-16, 16.1, 0.5), key=difference)
        best = optimize.minimize_scalar(
            difference, bounds=(start - 0.5, start + 0.5), method="bounded", options={"xatol": 1e-5}
        )
        assert best.fun < 1e-4
        angles.append(best.x)
    assert max(map(abs, angles)) <= MAX_DEGREES + 0.01
    assert min(angles) < -3
    assert max(angles) > 3


@pytest.mark.parametrize(("height", "width", "side"), [(8, 8, 2), (28, 28, 7), (32, 16, 4)])
def test_cutout_blanks_one_square_of_a_quarter_of_the_side(height: int, width: int, side: int) -> None:
    batch = pictures(200, 3, height, width)
    corners = set()
    for before, after in zip(batch.numpy(), changed(batch, "cutout").numpy(), strict=True):
        rows, columns = np.nonzero((after == 0).all(axis=0))
        top, left = rows.min(), columns.min()
        expected = before.copy()
        expected[:, top : top + side, left : left + side] = 0
        assert len(rows) == side * side
        assert np.array_equal(after, expected)
        corners.add((top, left))
    assert {0, height - side} <= {top for top, _ in corners}
    assert {0, width - side} <= {left for _, left in corners}


def slope_and_offset(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """Of the straight line from one to the other, and how far the values are from it."""
    slope, offset = np.polyfit(before.ravel(), after.ravel(), 1)
    return slope, offset, float(np.abs(slope * before + offset - after).max())


def test_colour_changes_brightness_and_contrast() -> None:
    batch = pictures(200, 1, 8, 8).double()
    slopes, brighter = [], []
    for before, after in zip(batch.numpy(), changed(batch, "colour").numpy(), strict=True):
        slope, _, error = slope_and_offset(before, after)
        assert error < 1e-5
        slopes.append(slope)
        brighter.append(after.mean() - before.mean())
    for least, most in ((min(slopes) - 1, max(slopes) - 1), (min(brighter), max(brighter))):
        assert -0.3001 <= least < -0.25
        assert 0.25 < most <= 0.3001


def test_colour_changes_saturation_of_colour_pictures() -> None:
    batch = pictures(200, 3, 8, 8).double()
    saturations = []
    for before, after in zip(batch.numpy(), changed(batch, "colour").numpy(), strict=True):
        contrast, _, error = slope_and_offset(before.mean(axis=0), after.mean(axis=0))
        assert error < 1e-5
        ratio, offset, error = slope_and_offset(before - before.mean(axis=0), after - after.mean(axis=0))
        assert error < 1e-5
        assert abs(offset) < 1e-5
        saturations.append(ratio / contrast)
    assert 0.6999 <= min(saturations) < 0.75
    assert 1.25 < max(saturations) <= 1.3001
