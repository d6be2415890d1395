"""Passes that only read can be computed in less than float32; what is measured then is another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cnnlens import Investigation
from cnnlens.activations.extract import extract, store_path
from cnnlens.activations.passes import Forward
from cnnlens.activations.sources import ModelSource
from cnnlens.activations.store import Store
from cnnlens.cluster.turns import _output
from cnnlens.data.open import open_data
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files import read_json
from cnnlens.measure.accuracy import scores_steps
from cnnlens.methods import methods
from cnnlens.model.open import open_model
from cnnlens.model.twin import untrained
from cnnlens.settings import RunSettings
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace
from tests.activations.little import SIZE, layers_of, little_model, write_pictures
from tests.cli.conftest import save_net

HALF = RunSettings(precision="bfloat16", workers=0)


def test_a_pass_is_torchs_own_autocast() -> None:
    model = little_model()
    layers = layers_of(model)
    pixels = torch.randint(0, 256, (4, 3, *SIZE)).byte()
    maps, logits = Forward(model.computing("bfloat16"), layers, logits=True, limit=4)(pixels)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = model.net(model.preprocess.normalize(pixels)).float()
    np.testing.assert_array_equal(logits, expected.numpy())
    plain, _ = Forward(model, layers, logits=False, limit=4)(pixels)
    for half, whole in zip(maps, plain, strict=True):
        assert half.dtype == np.float32 and not np.array_equal(half, whole)
        np.testing.assert_allclose(half, whole, atol=0.02 * np.abs(whole).max())
    assert all(p.dtype == torch.float32 for p in model.net.parameters())


def test_a_store_of_another_precision_is_another(tmp_path: Path) -> None:
    images = open_data(write_pictures(tmp_path / "data", 12))
    model = little_model()
    layers = layers_of(model)[:1]

    def filled(run: RunSettings, force: bool = False) -> int:
        return len(list(extract(model, images, layers, tmp_path, run=run, force=force)))

    def stored() -> np.ndarray:
        with Store(store_path(tmp_path, layers[0])) as store:
            return np.concatenate([maps for _, maps in store.batches()])

    assert filled(HALF) and not filled(HALF)  # it is there
    half = stored()
    with pytest.raises(CnnlensError, match="another --precision"):
        filled(RunSettings(workers=0))
    assert filled(RunSettings(workers=0), force=True)
    assert not np.array_equal(half, stored())

    streamed: list[np.ndarray] = []
    source = ModelSource(model, images, layers, HALF)
    list(source.sweep([lambda _, maps: streamed.append(maps)]))
    np.testing.assert_array_equal(np.concatenate(streamed), half)


def test_results_of_another_precision_are_redone(tmp_path: Path) -> None:
    def key(run: RunSettings) -> dict[str, object]:
        return Study(Workspace(tmp_path), little_model(), run=run).key()

    assert key(HALF)["precision"] == "bfloat16"
    assert key(RunSettings()) == {k: v for k, v in key(HALF).items() if k != "precision"}


@pytest.mark.parametrize("named", ["a file", "a Model", "a Model of its own precision"])
def test_a_calls_precision_in_python_is_that_calls_alone(named: str, tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "data", 4)
    file = save_net(tmp_path / "net.pt", 0)
    given = file if named == "a file" else open_model(str(file))
    if named == "a Model of its own precision":
        given = open_model(str(file)).computing("bfloat16")
    lens = Investigation(given, tmp_path / "out", quiet=True)
    usual = "bfloat16" if named == "a Model of its own precision" else "float32"

    def precision(layer: str, **how: str) -> str:
        lens.units(data=photos, layer=layer, store=False, **how)
        found = read_json(tmp_path / "out" / "units" / layer / "summary.json")
        return str(found["made_from"].get("precision", "float32"))

    assert precision("conv1", precision="bfloat16") == "bfloat16"
    assert precision("conv2") == usual
    assert lens.model.precision == usual


def test_half_precision_on_the_cpu_is_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match="float16 is for a GPU"):
        little_model().computing("float16")
    with pytest.raises(UsageError, match="float8"):
        RunSettings(precision="float8")


def precisions(net: torch.nn.Module, work: Iterator[object]) -> set[bool]:
    """Whether passes of a network, while something works, were in autocast."""
    seen: set[bool] = set()
    first = next(m for m in net.modules() if isinstance(m, torch.nn.Conv2d))
    hook = first.register_forward_hook(lambda *_: seen.add(torch.is_autocast_enabled("cpu")))
    for _ in work:
        pass
    hook.remove()
    return seen


def test_accuracies_and_random_twins_are_computed_in_the_precision(tmp_path: Path) -> None:
    images = open_data(write_pictures(tmp_path / "data", 12))
    named = replace(little_model(), classes=("cats", "dögs", "cows", "hens"))
    model = named.computing("bfloat16")
    layers = layers_of(model)[:1]
    scores = scores_steps(model, images, HALF)
    assert precisions(model.net, scores) == {True}
    twin = untrained(little_model(), 0)
    work = extract(twin, images, layers, tmp_path / "twin", run=HALF)
    assert precisions(twin.net, work) == {True}


def test_what_a_class_changes_to_without_a_unit_does_not_hang_on_the_precision() -> None:
    plain = little_model()
    (layer, *_), pixels = layers_of(plain), np.zeros((3, *SIZE), np.uint8) + 90
    half = plain.computing("bfloat16")
    ran = precisions(half.net, (_output(half, layer, pixels, [None, 0]) for _ in range(1)))
    assert ran == {False}
    found, truth = (_output(one, layer, pixels, [None, 0]) for one in (half, plain))
    assert torch.equal(found, truth)


def test_commands_that_follow_gradients_take_no_precision() -> None:
    takes = {m.name for m in methods().values() if "precision" in m.uses}
    assert takes == {
        "extract", "units", "dissect", "net2vec", "label", "exam", "stability",
        "cluster", "explain", "outliers", "compare", "evolve",
    }  # fmt: skip
