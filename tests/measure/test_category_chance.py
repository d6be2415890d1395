"""Whether a category among the highest peaks is more than drawing images gives."""

from __future__ import annotations

from math import comb

import pytest

from cnnlens.measure.category_chance import stands_out


def at_least(count: int, drawn: int, of_category: int, images: int) -> float:
    """The hypergeometric tail, counted."""
    ways = sum(
        comb(of_category, k) * comb(images - of_category, drawn - k)
        for k in range(count, min(drawn, of_category) + 1)
    )
    return ways / comb(images, drawn)


@pytest.mark.parametrize("count", range(20, 41))
def test_it_is_the_tail_of_drawing_without_putting_back(count: int) -> None:
    wanted = at_least(count, 100, 60, 300) * 5 < 0.05
    assert stands_out(count, 100, 60, 300, 5) is wanted


def test_both_happen_among_them() -> None:
    assert not stands_out(20, 100, 60, 300, 5) and stands_out(40, 100, 60, 300, 5)


def test_nothing_stands_out_where_all_images_are_drawn() -> None:
    assert not stands_out(30, 50, 30, 50, 3)


def test_the_best_of_many_categories_has_had_many_chances() -> None:
    assert stands_out(3, 100, 10, 10_000, 1) and not stands_out(3, 100, 10, 10_000, 1000)
