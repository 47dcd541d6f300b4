import numpy as np
import pytest
import torch

from clipdemo.training.augmentation import BRIGHTNESS, CONTRAST, SHIFT, ZOOM, augmented


def noise(n=16, size=24, seed=0, low=0, high=256):
    return torch.randint(
        low, high, (n, size, size, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def ramp(n, size=48, low=96, high=160):
    """Pictures that brighten evenly from left to right."""
    columns = torch.linspace(low, high, size).round().to(torch.uint8)
    return columns[None, None, :, None].expand(n, size, size, 3).contiguous()


def test_the_same_seed_gives_the_same_pictures():
    pixels = noise()
    torch.manual_seed(0)
    first = augmented(pixels, 7)
    torch.rand(5)
    assert torch.equal(augmented(pixels, 7), first)


def test_seeds_and_pictures_differ():
    pixels = noise(1).expand(8, -1, -1, -1)
    first, other = augmented(pixels, 1), augmented(pixels, 2)
    assert (first - other).abs().amax(dim=(1, 2, 3)).min() > 1
    assert all((first[i] - first[j]).abs().max() > 1 for i in range(8) for j in range(i))


def test_it_takes_no_random_numbers_of_others():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    augmented(noise(), 5)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(("n", "size"), [(1, 8), (5, 24), (3, 33)])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 256), (255, 256)])
def test_shape_type_and_range(n, size, low, high):
    pixels = noise(n, size, low=low, high=high)
    before = pixels.clone()
    changed = augmented(pixels, 0)
    assert changed.shape == pixels.shape and changed.dtype == torch.float32
    assert changed.min() >= 0 and changed.max() <= 255
    assert torch.equal(pixels, before)


def test_an_even_picture_stays_even_and_only_its_brightness_changes():
    grey = torch.full((200, 8, 8, 3), 128, dtype=torch.uint8)
    changed = augmented(grey, 4)
    levels = changed[:, 0, 0, 0]
    assert (changed - levels[:, None, None, None]).abs().max() < 1e-3
    assert (levels - 128).abs().max() <= 255 * BRIGHTNESS + 1e-3
    assert levels.mean() == pytest.approx(128, abs=3)
    assert levels.std() == pytest.approx(255 * BRIGHTNESS / 3**0.5, rel=0.2)  # of a uniform distribution


def test_on_average_the_picture_is_the_picture():
    """Over many seeds the changes cancel: a ramp keeps its mean, its order and most of its slope."""
    pixels = ramp(400)
    mean = augmented(pixels, 11).mean(dim=0)
    assert mean.mean() == pytest.approx(pixels.float().mean().item(), abs=3)
    middle = mean[:, 8:-8].mean(dim=(0, 2))  # the borders are mirrored
    original = pixels[0].float()[:, 8:-8].mean(dim=(0, 2))
    slope, before = (np.polyfit(np.arange(len(x)), x.numpy(), 1)[0] for x in (middle, original))
    assert slope == pytest.approx(before * sum(ZOOM) / 2, rel=0.05)  # zoomed in: fewer shades across


def test_nothing_is_mirrored_or_turned():
    changed = augmented(ramp(200), 2)[:, 8:-8, 8:-8]
    assert (changed.diff(dim=2) >= -1e-3).all()  # still brighter to the right
    assert changed.diff(dim=1).abs().max() < 1e-3  # and even from top to bottom


def test_zoom_and_contrast_stay_within_their_bounds():
    size, low, high = 48, 96, 160
    inner = augmented(ramp(300, size, low, high), 8)[:, size // 2, 12:-12, 0]
    slopes = inner.diff(dim=1).mean(dim=1) * (size - 1) / (high - low)  # zoom x contrast
    assert slopes.min() > ZOOM[0] * (1 - CONTRAST) * 0.97
    assert slopes.max() < ZOOM[1] * (1 + CONTRAST) * 1.03
    assert slopes.std() > 0.05


def test_a_spot_moves_a_little_in_every_direction_and_never_far():
    size = 49
    places = torch.arange(size) - size // 2
    spot = 60 + 100 * torch.exp(-(places[:, None] ** 2 + places[None, :] ** 2) / 18)
    pixels = spot.round().to(torch.uint8)[None, :, :, None].expand(300, size, size, 3)
    light = augmented(pixels, 6)[..., 0]
    light = (light - light.flatten(1).median(dim=1).values[:, None, None]).clamp(min=0)
    centres = torch.stack([(light.sum(dim=d) * places).sum(dim=1) / light.sum(dim=(1, 2)) for d in (1, 2)])
    assert centres.abs().max() <= SHIFT / ZOOM[0] * size / 2 + 0.3
    assert centres.std(dim=1).min() > 0.5
    assert centres.mean(dim=1).abs().max() < 0.3


def test_each_process_changes_its_share_as_one_process_would():
    pixels = noise(10)
    whole = augmented(pixels, 3)
    for rows in (slice(0, 4), slice(4, 7), slice(7, 10)):
        torch.testing.assert_close(augmented(pixels[rows], 3, 10, rows), whole[rows], rtol=0, atol=1e-4)
