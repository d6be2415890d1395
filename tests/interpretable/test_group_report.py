from __future__ import annotations

import pytest
import torch

from cnnlens.interpretable.group_report import Likeness, group_concepts
from cnnlens.interpretable.groups import Groups, split

RED, DOG = ("red", "color"), ("dog", "object")


def test_a_group_stands_for_what_its_members_detect_weighted_by_iou():
    labels = [RED, RED, DOG, None, RED, None, None, None, RED]
    iou = [0.05, 0.06, 0.2, 0.03, 0.04, 0.01, 0.0, 0.0, 0.9]
    one, other = group_concepts(labels, iou, split(9, 2))
    assert (one.label, one.category, one.detectors, one.members) == ("dog", "object", 1, 4)
    assert one.score == pytest.approx(0.2 / 4) and one.aligned
    assert other.label == "red" and other.score == pytest.approx(0.01) and not other.aligned


def test_a_group_without_detectors_stands_for_nothing():
    (found,) = group_concepts([None, None], [0.01, 0.02], Groups(2, 1))
    assert (found.label, found.score, found.aligned) == ("", 0, False)


def test_labels_that_do_not_fit_the_layer_are_a_mistake():
    with pytest.raises(ValueError, match="1 labels"):
        group_concepts([None], [0.1], Groups(2, 1))


def fields(groups: Groups, noise: float) -> torch.Tensor:
    """Members follow one map per group, the free units their own."""
    generator = torch.Generator().manual_seed(0)
    base = torch.rand(6, groups.number, 8, 8, generator=generator)
    own = torch.rand(6, groups.units, 8, 8, generator=generator)
    psi = own.clone()
    for group in range(groups.number):
        members = groups.members(group)
        psi[:, members] = (1 - noise) * base[:, group : group + 1] + noise * own[:, members]
    return psi


def test_members_that_agree_are_alike_within_and_not_across():
    groups = split(23, 5)
    found = Likeness(groups)
    found.add(fields(groups, 0.0))
    assert found.within == pytest.approx([1.0] * 5)
    assert found.across == pytest.approx(0.5, abs=0.05)  # of independent uniform maps


def test_members_of_nothing_in_common_are_as_alike_within_as_across():
    groups = split(23, 5)
    found = Likeness(groups)
    found.add(fields(groups, 1.0))
    assert found.within == pytest.approx([found.across] * 5, abs=0.05)


def test_likeness_does_not_depend_on_batches():
    groups = split(23, 5)
    psi = fields(groups, 0.3)
    whole, parts = Likeness(groups), Likeness(groups)
    whole.add(psi)
    for part in psi.split(2):
        parts.add(part)
    assert parts.within == pytest.approx(whole.within, rel=1e-6)
    assert parts.across == pytest.approx(whole.across, rel=1e-6)


def test_one_group_has_no_others_and_groups_of_one_no_pairs():
    one = Likeness(Groups(4, 1))
    one.add(torch.rand(2, 4, 3, 3))
    assert one.across is None and len(one.within) == 1
    single = Likeness(Groups(4, 4))
    single.add(torch.rand(2, 4, 3, 3))
    assert single.within == [None] * 4 and 0 < single.across < 1


def test_pairs_across_are_of_different_groups_and_never_free():
    groups = split(23, 5)
    found = Likeness(groups)
    first, second = found._first[30:], found._second[30:]
    of = torch.tensor(groups.of_units())
    assert (of[first] != of[second]).all() and (of[second] >= 0).all()
    assert set(of[second].tolist()) == set(range(5))
