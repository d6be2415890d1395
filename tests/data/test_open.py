from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from cnnlens.data.animals import make_animals
from cnnlens.data.broden import Broden
from cnnlens.data.open import find_broden, open_data
from cnnlens.errors import CnnlensError

from .layout import write

ROW = "a.png,train,6,8,2,3,7"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)


def test_brodens_layout_is_recognised_also_inside_the_folder_that_unzipping_left(
    tmp_path: Path,
) -> None:
    write(tmp_path / "zip" / "broden", "object", [ROW])
    (tmp_path / "zip" / "__MACOSX").mkdir()
    for path in (tmp_path / "zip" / "broden", tmp_path / "zip"):
        data = open_data(path)
        assert isinstance(data, Broden) and data.root == tmp_path / "zip" / "broden"
        assert data.name == "broden"


def test_a_broden_without_label_csv_is_damaged_not_a_folder_of_images(tmp_path: Path) -> None:
    write(tmp_path, "object", [ROW])
    (tmp_path / "label.csv").unlink()
    with pytest.raises(CnnlensError, match=r"label\.csv does not exist"):
        open_data(tmp_path)


def test_cub_is_found_in_the_folder_that_its_archive_leaves(tmp_path: Path) -> None:
    make_animals(tmp_path / "in" / "CUB", 3, 24)
    data = open_data(tmp_path / "in")
    assert data.root == tmp_path / "in" / "CUB" and (data.name, data.kind) == ("CUB", "parts")
    assert data.paths[0] == "images/001.long_neck/00000.png"
    assert data.image_categories == ("long neck", "trunk", "beak")
    assert all(data.file(index).is_file() for index in range(3))


def test_anything_else_is_a_folder_of_images(tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "1.png")
    assert open_data(str(tmp_path)).kind == "classes"


def test_find_broden_takes_the_size_nearest_to_the_networks_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNLENS_HOME", str(tmp_path))
    with pytest.raises(CnnlensError) as caught:
        find_broden()
    assert str(tmp_path) in caught.value.message
    assert "cnnlens data download broden" in caught.value.hint and "-d DIR" in caught.value.hint
    write(tmp_path / "broden1_384", "object", [ROW])
    assert find_broden().name == "broden1_384"
    for size in (224, 227):
        write(tmp_path / f"broden1_{size}", "object", [ROW])
    assert find_broden().name == "broden1_224"
    assert find_broden(size=227).name == "broden1_227"
    assert find_broden(size=299).name == "broden1_227"
    assert find_broden(size=331).name == "broden1_384"
