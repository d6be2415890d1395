from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlens.data.broden import Broden, open_broden
from cnnlens.data.check import check
from cnnlens.data.decode import load_image
from cnnlens.data.synthetic import make_shapes
from cnnlens.errors import CnnlensError
from cnnlens.files.tables import read_csv

IMAGES = 90


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Broden:
    return open_broden(make_shapes(tmp_path_factory.mktemp("shapes") / "shapes", IMAGES))


def pixels(broden: Broden, index: int) -> np.ndarray:
    return np.asarray(load_image(broden.root / broden.paths[index])).astype(int)


def mask(broden: Broden, index: int, category: str, label: str) -> np.ndarray:
    space = broden.concept_space()
    names = [(concept.category, concept.label) for concept in space.concepts]
    return (space.labels(index).planes == names.index((category, label)) + 1).any(0)


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_nothing_is_wrong_with_it_and_every_label_occurs(made: Broden) -> None:
    report = check(made.root)
    assert report.ok and report.notes == () and report.checked == IMAGES


def test_fifteen_concepts_of_the_paper_and_more(made: Broden) -> None:
    assert made.category_names == ("color", "shape", "color-shape", "texture", "part", "scene")
    concepts = made.concept_space().concepts
    count = {name: sum(c.category == name for c in concepts) for name in made.category_names}
    assert (count["color"], count["shape"], count["color-shape"]) == (3, 3, 9)
    numbers = [concept.number for concept in concepts]
    assert max(numbers) > 255 and len(numbers) < max(numbers)


def test_every_kind_of_cell_occurs(made: Broden) -> None:
    cells = [cell for row in made.rows for cell in row.cells]
    items = [cell.split(";") for cell in cells]
    assert any(cell.count(".png") > 1 for cell in cells)
    assert any(len(i) > 1 and any(x.isdigit() for x in i) and ".png" in "".join(i) for i in items)
    assert any(cell.isdigit() for cell in cells)


def test_colour_labels_are_where_the_pixels_have_that_colour(made: Broden) -> None:
    channels = {"red": 0, "green": 1, "blue": 2}
    for index in range(IMAGES):
        picture = pixels(made, index)
        for name, channel in channels.items():
            others = np.delete(picture, channel, axis=2).max(2)
            expected = (picture[..., channel] >= 150) & (others == 0)
            np.testing.assert_array_equal(mask(made, index, "color", name), expected)


def test_the_ground_is_white_and_two_figures_stand_in_their_halves(made: Broden) -> None:
    for index in range(IMAGES):
        figure = (pixels(made, index) != 255).any(2)
        for half in (figure[:32], figure[32:]):
            rows, columns = np.nonzero(half)
            assert np.ptp(rows) == 11 and np.ptp(columns) == 11


def test_shapes_are_what_their_areas_say(made: Broden) -> None:
    areas = {"square": 144, "circle": np.pi * 36, "triangle": 78}
    for index in range(45):
        for name, area in areas.items():
            count = mask(made, index, "shape", name).sum() / area
            assert min(abs(count - n) for n in (0, 1, 2)) < 0.2


def test_parts_lie_on_figures_and_the_halves_divide_them(made: Broden) -> None:
    for index in range(20):
        figure = (pixels(made, index) != 255).any(2)
        upper, lower, edge, corner = (
            mask(made, index, "part", name)
            for name in ("upper half", "lower half", "edge", "corner")
        )
        np.testing.assert_array_equal(upper ^ lower, figure)
        assert (edge <= figure).all() and (corner <= figure).all()
        ring = figure & ~np.pad(edge, 1)[1:-1, 1:-1]
        assert 0 < ring.sum() < figure.sum()  # an edge has an inside


def test_textures_darken_and_solid_figures_have_one_colour(made: Broden) -> None:
    for index in range(IMAGES):
        bright = pixels(made, index).max(2)
        assert set(bright[mask(made, index, "texture", "solid")]) <= {255}
        for name in ("striped", "dotted"):
            found = mask(made, index, "texture", name)
            assert not found.any() or set(bright[found]) == {191, 255}


def test_the_scene_covers_the_whole_image_and_counts_the_colours(made: Broden) -> None:
    space = made.concept_space()
    for index in range(IMAGES):
        picture = pixels(made, index)
        colours = {tuple(p) for p in (picture[(picture != 255).any(2)] > 0).tolist()}
        names = {space.concepts[i].label for i in space.labels(index).whole}
        assert names - {"filled alike"} == {"one colour" if len(colours) == 1 else "two colours"}


def test_every_45_pictures_show_every_combination_once(made: Broden) -> None:
    space = made.concept_space()
    wanted = [i for i, c in enumerate(space.concepts) if c.category == "color-shape"]
    for first in (0, 45):
        seen = set()
        for index in range(first, first + 45):
            planes = space.labels(index).planes
            seen.add(tuple(i for i in wanted if (planes == i + 1).any()))
        assert len(seen) == 36 + 9 and {len(pair) for pair in seen} == {1, 2}


def test_tables_count_what_is_in_the_pictures(made: Broden) -> None:
    space = made.concept_space()
    shown = [space.labels(index) for index in range(IMAGES)]
    for row in read_csv(made.root / "label.csv"):
        code = [c.number for c in space.concepts].index(int(row["number"]))
        shares = [
            1.0 if code in labels.whole else (labels.planes == code + 1).any(0).mean()
            for labels in shown
        ]
        assert int(row["frequency"]) == sum(share > 0 for share in shares)
        assert float(row["coverage"]) == pytest.approx(sum(shares), abs=1e-5)


def test_classes_say_whether_a_square_is_present(made: Broden) -> None:
    rows = read_csv(made.root / "classes.csv")
    assert [f"images/{row['image']}" for row in rows] == list(made.paths)
    for index, row in enumerate(rows):
        assert int(row["label"]) == mask(made, index, "shape", "square").any()
    assert 0.4 < np.mean([int(row["label"]) for row in rows]) < 0.65


def test_a_fifth_is_for_validation(made: Broden) -> None:
    assert made.splits.count("val") == IMAGES // 5


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path: Path) -> None:
    first, again, other = (
        tree(make_shapes(tmp_path / name, 6, seed=seed))
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert first == again and first != other


def test_other_sizes_scale_the_figures(tmp_path: Path) -> None:
    broden = open_broden(make_shapes(tmp_path / "big", 2, size=128))
    figure = (pixels(broden, 0) != 255).any(2)
    assert figure.shape == (128, 128) and np.ptp(np.nonzero(figure[:64])[0]) == 23


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    make_shapes(tmp_path / "a", 3, progress=lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def strike(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_shapes(tmp_path / "a", 3, progress=strike)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_replaced_only_by_force_and_only_when_it_is_a_data_set(
    tmp_path: Path,
) -> None:
    make_shapes(tmp_path / "a", 2)
    with pytest.raises(CnnlensError, match="is not empty"):
        make_shapes(tmp_path / "a", 3)
    assert len(open_broden(tmp_path / "a").paths) == 2
    make_shapes(tmp_path / "a", 3, force=True)
    assert len(open_broden(tmp_path / "a").paths) == 3
    (tmp_path / "mine").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "mine" / "holiday.png")
    with pytest.raises(CnnlensError, match="no data set that could be replaced"):
        make_shapes(tmp_path / "mine", 3, force=True)
    assert (tmp_path / "mine" / "holiday.png").exists()
    (tmp_path / "empty").mkdir()
    make_shapes(tmp_path / "empty", 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "empty", "mine"]


def test_senseless_sizes_are_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="images=0"):
        make_shapes(tmp_path / "a", 0)
    with pytest.raises(ValueError, match="size=10"):
        make_shapes(tmp_path / "a", 1, size=10)
    assert list(tmp_path.iterdir()) == []
