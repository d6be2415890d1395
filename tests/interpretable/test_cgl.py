from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from cnnlens.errors import UsageError
from cnnlens.interpretable import cgl
from cnnlens.interpretable.cgl import Groups, draw_pairs, split
from tests.reference import cgl as literal


def maps(shape: tuple[int, ...] = (3, 11, 5, 4), seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64) * 2 + 0.3


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def fields(shape: tuple[int, ...] = (3, 11, 5, 4), seed: int = 0) -> torch.Tensor:
    return torch.sigmoid(maps(shape, seed))


# ---- groups


def test_groups_are_consecutive_and_the_rest_is_free():
    groups = split(13, 5)
    assert groups.of_units() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, -1, -1, -1]
    assert (groups.size, groups.grouped, groups.free) == (2, 10, 3)
    assert groups.members(4) == slice(8, 10)


@pytest.mark.parametrize("number", [0, -1, 9])
def test_groups_that_cannot_be_are_refused(number):
    with pytest.raises(UsageError, match=f"--groups {number}"):
        split(8, number, "conv2")


def test_pairs_are_three_times_the_size_and_differ():
    groups = split(52, 5)  # 10 per group
    first, second = draw_pairs(groups, torch.Generator().manual_seed(0))
    assert first.shape == second.shape == (5, 30)
    for group in range(5):
        members = range(52)[groups.members(group)]
        drawn = set(zip(first[group].tolist(), second[group].tolist(), strict=True))
        assert len(drawn) == 30
        assert all(i < j and i in members and j in members for i, j in drawn)


def test_small_groups_compare_all_pairs_and_groups_of_one_none():
    first, second = draw_pairs(split(12, 4), torch.Generator())
    assert sorted(zip(first[1].tolist(), second[1].tolist(), strict=True)) == [
        (3, 4), (3, 5), (4, 5),
    ]  # fmt: skip
    first, _ = draw_pairs(split(4, 4), torch.Generator())
    assert first.shape == (4, 0)


def test_pairs_change_from_draw_to_draw_but_not_from_seed_to_same_seed():
    generator = torch.Generator().manual_seed(1)
    once, again = (draw_pairs(split(50, 5), generator)[0] for _ in range(2))
    assert not torch.equal(once, again)
    assert torch.equal(once, draw_pairs(split(50, 5), torch.Generator().manual_seed(1))[0])


# ---- soft receptive fields


def test_field_is_the_printed_one():
    a = maps()
    found = cgl.soft_field(a, number(1.3), number(-0.4))
    assert np.allclose(found.detach(), literal.soft_field(a.numpy(), 1.3, -0.4), atol=1e-9)


def test_field_does_not_depend_on_the_scale_of_a_unit():
    a = maps()
    scaled = a * torch.linspace(0.1, 30, 11, dtype=a.dtype)[:, None, None]
    p1, p2 = number(1.0), number(0.2)
    assert torch.allclose(cgl.soft_field(scaled, p1, p2), cgl.soft_field(a, p1, p2))


def test_field_of_a_norm_is_the_printed_one():
    norm = torch.nn.BatchNorm2d(11).double()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-2, 1.5, 11) + 0.2)
        norm.bias.copy_(torch.linspace(1, -1, 11))
    a = maps()
    plain = torch.nn.BatchNorm2d(11, affine=False).double()(a).numpy()
    gamma, beta = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    found = cgl.soft_field_of_norm(norm(a), norm.weight, number(0.8), number(0.1))
    assert np.allclose(found.detach(), literal.soft_field_of_norm(plain, gamma, beta, 0.8, 0.1))


def test_a_norm_without_weight_on_a_unit_leaves_the_field_finite():
    gamma = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    psi = cgl.soft_field_of_norm(torch.ones(1, 2, 2, 2).double(), gamma, number(1), number(0))
    psi.sum().backward()
    assert psi.isfinite().all() and gamma.grad.isfinite().all()


def test_a_unit_that_never_changes_gives_finite_gradients():
    a = torch.zeros(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    psi = cgl.soft_field(a, number(1), number(0))
    first, second = draw_pairs(Groups(4, 1), torch.Generator())
    (cgl.group_loss(psi, first, second) + cgl.spatial_loss(psi)).backward()
    assert a.grad.isfinite().all()


# ---- losses


def test_group_loss_is_the_printed_one():
    psi = fields()
    first, second = draw_pairs(Groups(11, 2), torch.Generator().manual_seed(3))
    pairs = [
        list(zip(i.tolist(), j.tolist(), strict=True)) for i, j in zip(first, second, strict=True)
    ]
    found = cgl.group_loss(psi, first, second)
    assert float(found) == pytest.approx(literal.group_loss(psi.numpy(), pairs), rel=1e-9)


def test_distance_of_sets_is_one_minus_their_iou():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 1, 6, 6, generator=generator) > 0.5 for _ in range(2))
    psi = torch.cat([a, b], dim=1).double()
    (found,) = cgl.soft_jaccard(psi, torch.tensor([0]), torch.tensor([1]))
    assert float(found) == pytest.approx(1 - float((a & b).sum() / (a | b).sum()))


def test_equal_fields_are_at_no_distance_and_disjoint_ones_at_one():
    psi = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    psi[0, :2, 0] = psi[0, 2, 1] = 1
    found = cgl.soft_jaccard(psi, torch.tensor([0, 0]), torch.tensor([1, 2]))
    assert found.tolist() == pytest.approx([0, 1])


def test_spatial_loss_is_the_printed_one():
    psi = fields()
    assert float(cgl.spatial_loss(psi)) == pytest.approx(
        literal.spatial_loss(psi.numpy()), rel=1e-6
    )


def test_mass_at_one_point_has_no_spread_and_two_points_half_their_distance():
    psi = torch.zeros(1, 2, 5, 9, dtype=torch.float64)
    psi[0, 0, 2, 3] = 0.7
    psi[0, 1, 0, 0] = psi[0, 1, 4, 3] = 0.5
    assert float(cgl.spatial_loss(psi)) == pytest.approx((0 + 2.5) / 2, abs=1e-5)


def test_block_norm_is_the_printed_one_and_leaves_free_filters_out():
    weight = maps((11, 3, 2, 2))
    groups = split(11, 5)
    assert float(cgl.block_norm(weight, groups)) == pytest.approx(
        literal.block_norm(weight.numpy(), 5)
    )
    assert float(cgl.block_norm(weight[:10], groups)) == float(cgl.block_norm(weight, groups))


def test_block_norm_of_a_group_without_weights_has_a_finite_gradient():
    weight = torch.zeros(4, 1, 1, 1, requires_grad=True)
    cgl.block_norm(weight, split(4, 2)).backward()
    assert weight.grad.isfinite().all()


def test_sliding_loss_compares_the_same_members_at_the_coarser_size():
    lower, upper = fields((2, 7, 4, 6)), fields((2, 4, 2, 3), seed=5)
    pooled = lower.reshape(2, 7, 2, 2, 3, 2).mean(dim=(3, 5))
    found = cgl.sliding_loss(lower, upper, split(7, 2), split(4, 2))
    of = [(0, 0), (1, 1)], [(3, 2), (4, 3)]  # 3 and 2 filters per group
    expected = sum(
        np.mean([literal.distance(pooled[:, i].numpy(), upper[:, j].numpy()) for i, j in pairs])
        for pairs in of
    )
    assert float(found) == pytest.approx(expected)


# ---- gradients


def test_gradients_agree_with_differences():
    a = maps((2, 6, 3, 4)).requires_grad_()
    first, second = draw_pairs(split(6, 2), torch.Generator().manual_seed(0))

    def loss(a, p1, p2):
        psi = cgl.soft_field(a, p1, p2)
        return cgl.group_loss(psi, first, second) + 0.3 * cgl.spatial_loss(psi)

    assert gradcheck(loss, (a, number(0.9), number(0.1)), eps=1e-7, atol=1e-6)


def test_gradient_of_the_compared_pairs_is_autograds():
    psi = fields((5, 8, 4, 4)).requires_grad_()
    first, second = draw_pairs(split(8, 2), torch.Generator().manual_seed(0))
    first, second = first.flatten(), second.flatten()
    weight = torch.linspace(-1, 2, len(first), dtype=torch.float64)
    (cgl.soft_jaccard(psi, first, second) * weight).sum().backward()
    mine, psi.grad = psi.grad, None
    apart = (psi[:, first] - psi[:, second]).abs().sum(dim=(0, 2, 3))
    area = psi.sum(dim=(0, 2, 3))
    plain = 2 * apart / (area[first] + area[second] + apart)
    (plain * weight).sum().backward()
    assert torch.allclose(mine, psi.grad, atol=1e-10)


def test_comparing_in_small_parts_changes_nothing(monkeypatch):
    psi = fields((5, 8, 4, 4))
    first, second = (p.flatten() for p in draw_pairs(split(8, 2), torch.Generator()))

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        mine = psi.clone().requires_grad_()
        distance = cgl.soft_jaccard(mine, first, second)
        distance.sum().backward()
        return distance.detach(), mine.grad

    whole = both()
    monkeypatch.setattr(cgl, "_AT_ONCE", 1)
    for one, other in zip(whole, both(), strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_two_halves_that_add_up_see_the_whole_minibatch():
    """What a process of two computes, when the other half's sums are added to its own."""
    a = maps((4, 6, 3, 3))
    p1, p2 = number(1.0), number(0.0)
    first, second = draw_pairs(split(6, 2), torch.Generator().manual_seed(0))
    whole = cgl.soft_field(a, p1, p2)
    mean = a.mean(dim=(0, 2, 3))
    sums = iter(
        [
            torch.tensor(36.0),
            a.sum(dim=(0, 2, 3)),
            (a - mean[:, None, None]).square().sum((0, 2, 3)),
        ]
    )
    half = cgl.soft_field(a[:2], p1, p2, lambda value: next(sums))
    assert torch.allclose(half, whole[:2])
    area = whole.sum(dim=(0, 2, 3))
    apart = (whole[:, first.flatten()] - whole[:, second.flatten()]).abs().sum(dim=(0, 2, 3))
    sums = iter([area, apart])
    found = cgl.group_loss(half, first, second, lambda value: next(sums))
    assert torch.allclose(found, cgl.group_loss(whole, first, second))
