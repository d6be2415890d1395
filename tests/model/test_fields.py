"""Fields hold every pixel that a unit answers to, found by changing pixels one after another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnlens.model.fields import receptive_fields
from cnnlens.model.layers import Layers
from cnnlens.model.mask import Mask
from cnnlens.model.receptive_field import Field, Fields, field_box
from cnnlens.model.trace import trace

SIDE = (12, 10)


class Net(nn.Module):
    """A convolution, what happens to its maps, and another one."""

    def __init__(self, happens: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, (3, 1), padding=(1, 0))
        self.happens = happens
        with torch.no_grad():
            channels = happens(torch.rand(1, 4, *SIDE)).shape[1]
        self.second = nn.Conv2d(channels, 2, (1, 3), padding=(0, 1))
        self.out = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.second(self.happens(self.first(x))))


def changed(net: nn.Module) -> Tensor:
    """Which places (H', W') change where a pixel does: (H', W', H, W) bool."""
    x = torch.rand(1, 3, *SIDE)
    pixels = torch.eye(SIDE[0] * SIDE[1]).reshape(-1, 1, *SIDE)
    with torch.no_grad():
        plain = net(x)
        other = torch.cat([net(x + one) for one in pixels])  # one by one: batches count for nothing
    moved = ((other - plain).abs() > 1e-7).any(1)  # (H·W, H', W')
    return moved.permute(1, 2, 0).unflatten(2, SIDE)


def fields_of(net: nn.Module) -> Fields:
    passed = trace(net, torch.rand(1, 3, *SIDE))
    value = next(call.value for call in passed.calls if call.path == "out")
    return receptive_fields(passed, (1, 3, *SIDE))[value]


def windows(x: Tensor, side: int = 2) -> Tensor:
    """Cut maps into windows, each an image of its own: (N·T, C, side, side)."""
    n, c, h, w = x.shape
    cut = x.view(n, c, h // side, side, w // side, side).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(-1, c, side, side)


def put_together(x: Tensor, side: int = 2) -> Tensor:
    h, w = SIDE[0] // side, SIDE[1] // side
    return x.view(1, h, w, -1, side, side).permute(0, 3, 1, 4, 2, 5).reshape(1, -1, *SIDE)


def written(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, :, 1:] = x[:, :, :-1]
    return y


def in_part(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, :2] = x[:, :2] * 2 + 1
    return x


def turned(x: Tensor) -> Tensor:
    return x[..., : SIDE[1], :].permute(0, 3, 2, 1)[:, :, :, :4]


CONV = nn.Conv2d(4, 4, 3, padding=1)
DOWN = nn.Conv2d(4, 4, 3, stride=2, padding=1)
MIX = nn.Linear(SIDE[0] * SIDE[1], SIDE[0] * SIDE[1])
CHANNELS = nn.Linear(4, 4)

LOCAL: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing": lambda x: x,
    "convolution": CONV,
    "strided": DOWN,
    "reflected": nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    "replicated": nn.Conv2d(4, 4, 5, padding=2, padding_mode="replicate"),
    "residual": lambda x: F.relu(CONV(x)) + x,
    "strided residual": lambda x: DOWN(x) + F.avg_pool2d(x, 2),
    "channels shuffled": lambda x: x.view(1, 2, 2, *SIDE).transpose(1, 2).flatten(1, 2),
    "channels flipped": lambda x: x.flip(1),
    "channels chosen": lambda x: x[:, torch.tensor([3, 1, 1])],
    "channels split": lambda x: torch.cat([x.chunk(2, 1)[1], CONV(x)], 1),
    "channels last": lambda x: CHANNELS(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    "rows of tokens": lambda x: (
        CHANNELS(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, SIDE)
    ),
    "there and back": lambda x: CONV(x.transpose(2, 3)).transpose(2, 3),
    "padded, cut": lambda x: F.pad(x, (2, 0, 1, 3))[:, :, 1:-1, ::2],
    "padded by nothing": lambda x: F.pad(x, (0, 0, 0, 0)).narrow(3, 0, SIDE[1]) + x,
    "response norm": lambda x: F.local_response_norm(x, 3),
    "softmax of channels": lambda x: x.softmax(1) * x.amax(1, keepdim=True),
    "length of channels": lambda x: F.normalize(x),
    "maxima": lambda x: F.max_pool2d(x, 3, 2, 1),
    "space to depth": lambda x: F.pixel_unshuffle(x, 2),
    "depth to space": lambda x: F.pixel_shuffle(x, 2),
    "stacked": lambda x: torch.stack([x, CONV(x)]).mean(0),
    "written in part": in_part,
    "transposed": nn.ConvTranspose2d(4, 4, 4, 2, 1),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "context": lambda x: (
        (x.flatten(2) @ x[:, :1].flatten(2).softmax(2).transpose(1, 2)).unsqueeze(3) * 0 + x
    ),
    "einsum": lambda x: torch.einsum("nchw,cd->ndhw", x, CHANNELS.weight),
}
WHOLE: dict[str, Callable[[Tensor], Tensor]] = {
    "circular": nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
    "flipped": lambda x: x.flip(3),
    "flipped beside itself": lambda x: x.flip(3) + x,
    "rolled beside itself": lambda x: torch.cat([x.roll(2, 2), x], 1),
    "rows and columns swapped": lambda x: x.transpose(2, 3),
    "channels and columns swapped": turned,
    "side by side": lambda x: torch.cat([x, CONV(x)], 3),
    "windows": lambda x: put_together(CONV(windows(x))).flip(2),
    "windows side by side": lambda x: windows(x).permute(1, 2, 0, 3).reshape(1, 4, 2, -1),
    "another order": lambda x: x.permute(0, 2, 1, 3).reshape(1, 4, *SIDE),
    "sorted": lambda x: x.sort(2).values,
    "sums along rows": lambda x: x.cumsum(3),
    "chosen rows": lambda x: x[:, :, torch.arange(11, -1, -1)],
    "written to another place": written,
    "sampled": lambda x: F.grid_sample(
        x, F.affine_grid(torch.tensor([[[-1.0, 0, 0], [0, 1, 0]]]), [1, 4, *SIDE], False),
        align_corners=False,
    ),
    "mixed from the left": lambda x: (
        (MIX.weight @ x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, SIDE)
    ),
    "mixed": lambda x: MIX(x.flatten(2)).unflatten(2, SIDE),
    "attention": lambda x: F.scaled_dot_product_attention(*[x.flatten(2).transpose(1, 2)] * 3)
    .transpose(1, 2).unflatten(2, SIDE),
    "through a vector": lambda x: F.pad(x.flatten(1)[:, 7:], (0, 7)).view(1, 4, *SIDE) + x,
    "decoded": lambda x: x.mean((2, 3)).repeat(1, 30).view(1, 1, *SIDE) + x,
    "softmax of places": lambda x: x.flatten(2).softmax(2).unflatten(2, SIDE) * x,
    "fourier": lambda x: torch.fft.irfft2(torch.fft.rfft2(x), s=SIDE) + x,
    "unpooled": lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
}  # fmt: skip


@pytest.mark.parametrize("name", [*LOCAL, *WHOLE])
def test_a_field_holds_every_pixel_that_changes_a_unit(name: str) -> None:
    net = Net({**LOCAL, **WHOLE}[name]).eval()
    fields, seen = fields_of(net), changed(net)
    assert all(field.whole == (name in WHOLE) for field in fields)
    for y, x in torch.cartesian_prod(*map(torch.arange, seen.shape[:2])).tolist():
        top, left, bottom, right = field_box(fields, (y, x), SIDE)
        outside = seen[y, x].clone()
        outside[top:bottom, left:right] = False
        assert not outside.any(), (y, x)


@pytest.mark.parametrize("position", ["argmax", "centroid"])
def test_a_mask_around_the_peak_of_a_map_is_a_gate(position: str) -> None:
    masked = Net(lambda x: Mask(x.shape[1], position)(x.relu()))
    assert fields_of(masked.eval()) == fields_of(Net(torch.relu).eval())


def test_quantized_convolutions_slide_as_others_do() -> None:
    if torch.backends.quantized.engine in (None, "none"):
        pytest.skip("no quantized convolutions here")
    how = {"kernel_size": 5, "stride": (2, 3), "padding": (1, 2), "dilation": (2, 1)}
    fields = []
    for kind in (nn.Conv2d, torch.ao.nn.quantized.Conv2d):
        net = nn.Sequential(nn.Identity(), kind(3, 2, **how), nn.MaxPool2d(2), nn.Identity())
        if kind is not nn.Conv2d:
            net[0] = torch.ao.nn.quantized.Quantize(0.1, 0, torch.quint8)
        passed = trace(net.eval(), torch.rand(1, 3, 40, 40))
        fields.append(receptive_fields(passed, (1, 3, 40, 40))[passed.calls[-2].value])
    assert fields[0] == fields[1] and fields[0][0].size > 5


def test_positions_of_which_nothing_is_known_lie_evenly_over_the_input() -> None:
    net = nn.Sequential(SpaceToDepth(), nn.Conv2d(12, 4, 1))
    rows, columns = Layers(trace(net, torch.rand(1, 3, *SIDE)), (1, 3, *SIDE)).resolve("1").fields
    assert rows.whole and columns.whole
    assert [rows.centre(0), rows.centre(5)] == [1, 11]  # of 12
    assert [columns.centre(0), columns.centre(4)] == [1, 9]  # of 10


def test_patches_put_in_rows_by_hand_see_what_a_convolution_does() -> None:
    by_hand, slid = (
        Layers(trace(net, torch.rand(1, 3, *SIDE)), (1, 3, *SIDE)).rows[-1].fields
        for net in (nn.Sequential(InRows(), nn.Linear(12, 4)), nn.Sequential(nn.Conv2d(3, 4, 2, 2)))
    )
    assert by_hand == slid == (Field(2, 2, 1),) * 2


class InRows(nn.Module):
    """Blocks of 2×2 as tokens, as einops cuts them."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        cut = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1)
        return cut.reshape(n, h // 2 * (w // 2), 4 * c)


class SpaceToDepth(nn.Module):
    """Blocks of 2×2 as channels, put together by hand."""

    def forward(self, x: Tensor) -> Tensor:
        return (
            windows(x)
            .reshape(1, -1, SIDE[0] // 2 * (SIDE[1] // 2), 12)
            .permute(0, 3, 1, 2)
            .reshape(1, 12, SIDE[0] // 2, SIDE[1] // 2)
        )
