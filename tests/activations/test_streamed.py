from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cnnlens.activations import streamed
from cnnlens.activations.extract import extract
from cnnlens.activations.store import Store
from cnnlens.activations.streamed import ModelMaps, readable_steps
from cnnlens.cluster.embed import flat_vectors
from cnnlens.data.open import open_data
from cnnlens.errors import CnnlensError
from cnnlens.progress import followed
from cnnlens.settings import RunSettings

from . import little

RUN = RunSettings(batch_size=13, workers=0)  # which become 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """75 photos, of which the third and the 41st cannot be read."""
    return little.write_pictures(tmp_path_factory.mktemp("photos"), 75, damaged=(2, 40))


@pytest.fixture
def both(folder: Path, tmp_path: Path) -> Iterator[tuple[Store, ModelMaps]]:
    """The same layer from a store and from the network."""
    model = little.little_model()
    (layer, *_) = little.layers_of(model)
    images = open_data(folder)
    list(extract(model, images, [layer], tmp_path, run=RUN))
    positions, damaged = followed(readable_steps(images, model.preprocess, RUN), None)
    assert [path for path, _ in damaged] == ["cats/002.png", "dögs/040.png"]
    with Store(tmp_path / f"{layer.folder}.h5") as store:
        yield store, ModelMaps(model, images, layer, RUN, positions)


def test_blocks_are_those_of_the_store_to_the_byte(both: tuple[Store, ModelMaps]) -> None:
    store, maps = both
    assert maps.shape == store.shape
    assert maps.images == store.images
    np.testing.assert_array_equal(maps.positions, store.positions)
    for units in (slice(None), slice(1, 3)):
        pairs = list(zip(maps.batches(units), store.batches(units), strict=True))
        assert len(pairs) > 2
        for (mine, own), (theirs, kept) in pairs:
            np.testing.assert_array_equal(mine, theirs)
            assert own.tobytes() == kept.tobytes()


@pytest.mark.parametrize("rows", [[0], [31, 32], [70], [5, 66], []])
def test_only_blocks_with_wanted_rows_are_read(
    both: tuple[Store, ModelMaps], rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, maps = both
    wanted = np.zeros(store.shape[0], bool)
    wanted[rows] = True
    met: list[range] = []
    passes = streamed.passes

    def counted(*given: object, blocks: list[range], **more: object) -> object:
        met.extend(blocks)
        return passes(*given, blocks=blocks, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(streamed, "passes", counted)
    pairs = list(zip(maps.blocks(wanted), store.blocks(wanted), strict=True))
    found = np.concatenate([np.zeros(0, int), *(mine for (mine, _), _ in pairs)])
    assert set(rows) <= set(found.tolist())
    assert len(pairs) == len({row // 32 for row in rows})
    places = {*maps.positions[found].tolist()}
    assert all(places & {*block} for block in met)  # the network ran over no others
    for (mine, own), (theirs, kept) in pairs:
        np.testing.assert_array_equal(mine, theirs)
        assert own.tobytes() == kept.tobytes()
        np.testing.assert_array_equal(kept, store[int(theirs[0]) : int(theirs[-1]) + 1])


@pytest.mark.parametrize("large", [False, True])
def test_vectors_for_a_layout_are_the_same(
    both: tuple[Store, ModelMaps], large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr("cnnlens.cluster.embed._LARGE", 1)
        monkeypatch.setattr("cnnlens.cluster.embed._PROJECTED", 7)
    store, maps = both
    (mine, short), (theirs, _) = flat_vectors(maps), flat_vectors(store)
    assert short == (7 if large else None)
    assert mine.tobytes() == theirs.tobytes()


def test_an_image_that_went_away_since_is_named(both: tuple[Store, ModelMaps]) -> None:
    _, maps = both
    maps.positions = np.arange(75)[:-2]  # as if the third one had been there
    with pytest.raises(CnnlensError, match=r"002\.png could be read at first"):
        list(maps.batches())
