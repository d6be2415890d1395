"""What sweeps say of how far they are: images, as people count them, on however many layers."""

from __future__ import annotations

import pytest

from cnnlens.activations.extract import extract
from cnnlens.activations.in_turn import SourcesInTurn
from cnnlens.activations.sources import ModelSource, StoreSource
from cnnlens.activations.store import Store
from cnnlens.data.open import open_data
from cnnlens.distributed import ALL, Share
from cnnlens.settings import RunSettings

from . import little

COUNT = 20  # images, of which none is damaged


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[ModelSource | StoreSource]:
    """Two layers from stores, and one from the network."""
    folder = tmp_path_factory.mktemp("sources")
    data = open_data(little.write_pictures(folder / "data", COUNT))
    model, run = little.little_model(), RunSettings(batch_size=4, workers=0)
    layers = little.layers_of(model, ["0", "conv2", "conv1"])
    list(extract(model, data, layers[:2], folder / "stores", run=run))
    stores = [Store(path) for path in sorted((folder / "stores").glob("*.h5"))]
    assert len(stores) == 2
    return [StoreSource(stores), ModelSource(model, data, layers[2:], run)]


def seen(source: StoreSource | SourcesInTurn, share: Share = ALL) -> list[int]:
    """How many images are done, step by step."""
    steps = list(source.sweep([lambda positions, maps: None] * len(source.shapes), share))
    assert {step.total for step in steps} == {source.total} == {COUNT}
    assert {step.unit for step in steps} == {"images"}
    done = [step.done for step in steps]
    assert done == sorted(done)
    return done


def test_layers_of_stores_are_no_further_images(sources: list) -> None:
    done = seen(sources[0])
    assert done[-1] == COUNT and COUNT // 2 in done  # where the first layer is done


def test_sources_in_turn_count_images_once(sources: list) -> None:
    done = seen(SourcesInTurn(sources))
    assert done[-1] == COUNT and 2 * COUNT // 3 in done  # two layers of three


def test_shares_of_sources_in_turn_come_to_all_images(sources: list) -> None:
    both = SourcesInTurn([sources[0], sources[0]])
    ends = [seen(both, Share(number, 2, True))[-1] for number in (0, 1)]
    assert sum(ends) == COUNT
