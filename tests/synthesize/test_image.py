from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnlens.synthesize.image import Fourier, Pixels

# the published square root of the colours' covariance and its largest column norm
COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 9, 15), (1, 8, 11), (6, 8, 8)])
@pytest.mark.parametrize(("decay", "fading"), [(1.0, 0.0), (1.5, 0.0), (1.2, 0.2)])
def test_fourier_images_are_numpys_inverse_transform(shape, decay, fading):
    channels, height, width = shape
    image = Fourier(shape, decay, fading=fading)
    code = image.noise(generators(1, 2), 0.5).double()
    spectrum = code[..., 0].numpy() + 1j * code[..., 1].numpy()
    rows, columns = np.fft.fftfreq(height), np.fft.rfftfreq(width)
    frequency = np.hypot(rows[:, None], columns[None])
    scale = np.sqrt(height * width) / 4 / np.maximum(frequency, 1 / max(height, width)) ** decay
    scale *= np.exp(-(frequency**2) / (2 * fading**2)) if fading else 1
    plain = np.fft.irfft2(spectrum * scale, s=(height, width))
    if channels == 3:
        matrix = COLOURS / np.linalg.norm(COLOURS, axis=0).max()
        plain = np.einsum("ij,njhw->nihw", matrix, plain)
    truth = 1 / (1 + np.exp(-plain))
    np.testing.assert_allclose(image.decode(code).numpy(), truth, atol=1e-4)


@pytest.mark.parametrize("kind", [Fourier, Pixels])
@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 7, 10), (6, 9, 9)])
def test_decoding_undoes_encoding(kind, shape):
    image = kind(shape)
    pictures = torch.rand((2, *shape), generator=generators(3)[0]).double() * 0.98 + 0.01
    code = image.encode(pictures)
    torch.testing.assert_close(image.decode(code), pictures, atol=1e-6, rtol=0)
    assert code.shape == image.noise(generators(1, 2), 1.0).shape


def test_a_fourier_codes_gradient_is_right_in_double_precision():
    image = Fourier((3, 4, 5))
    code = image.noise(generators(1), 0.3).double().requires_grad_()
    assert torch.autograd.gradcheck(image.decode, (code,))


def test_low_frequencies_come_first():
    image = Fourier((1, 64, 64))
    pictures = image.decode(image.noise(generators(*range(20)), 0.01))
    power = torch.fft.rfft2(pictures - 0.5).abs().square().mean((0, 1))
    assert power[1, 1] > 50 * power[16, 16]


def test_each_image_has_its_own_randomness():
    image = Pixels((3, 8, 8))
    both, alone = image.noise(generators(1, 2), 0.1), image.noise(generators(2), 0.1)
    assert torch.equal(both[1:], alone)
    assert not torch.equal(both[0], both[1])


def test_pixels_stay_pictures():
    image = Pixels((1, 2, 2))
    assert image.kept(torch.tensor([[[[-1.0, 0.2], [0.5, 3.0]]]])).flatten().tolist() == [
        0.0,
        pytest.approx(0.2),
        0.5,
        1.0,
    ]


def measured(pictures: torch.Tensor) -> tuple[float, float]:
    """Root mean squares of a picture's logits, and of what is left of them without the axis of
    lightness, both by numpy."""
    logits = np.log(pictures / (1 - pictures)).numpy()[0]  # (C, H, W)
    if len(logits) != 3:
        return float(np.sqrt((logits**2).mean())), 0.0
    axes = np.linalg.solve(COLOURS, logits.reshape(3, -1))  # along the colours' axes
    colour = COLOURS[:, 1:] @ axes[1:]
    return float(np.sqrt((logits**2).mean())), float(np.sqrt((colour**2).mean()))


@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 7, 10), (13, 9, 9)])
def test_contrast_and_colour_are_bounded_image_by_image(shape):
    free = Fourier(shape)
    pale, strong = free.noise(generators(1), 0.001), free.noise(generators(2), 20.0)
    bound = Fourier(shape, bounds=(torch.tensor([0.5, 0.5]), torch.tensor([0.1, 0.1])))
    kept = bound.kept(torch.cat([pale, strong]))
    assert torch.equal(kept[:1], pale)  # nothing to scale back
    whole, colour = measured(bound.decode(kept[1:]).double())
    assert whole == pytest.approx(0.5, rel=0.01)
    assert colour <= 0.101
    own = [float(one) for one in free.contrast(strong / 20)]
    seen = measured(free.decode(strong / 20).double())
    assert seen[0] == pytest.approx(own[0], rel=0.02)
    assert shape[0] != 3 or seen[1] == pytest.approx(own[1], rel=0.02)
    assert torch.equal(free.kept(strong), strong)
    # within a channel it is the same picture, but paler
    for before, after in zip(strong[0], kept[1], strict=True):
        alike = torch.nn.functional.cosine_similarity(before.flatten(), after.flatten(), dim=0)
        assert float(alike) == pytest.approx(1, abs=1e-5)


def test_colour_alone_is_scaled_back_where_it_alone_is_too_much():
    free = Fourier((3, 12, 12))
    code = free.noise(generators(3), 0.02)
    code[:, 1:] *= 20
    whole, hue = free.contrast(code)
    kept = Fourier((3, 12, 12), bounds=(whole * 2, hue / 4)).kept(code)
    assert torch.equal(kept[:, :1], code[:, :1])
    torch.testing.assert_close(kept[:, 1:], code[:, 1:] / 4)
