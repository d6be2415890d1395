"""--no-store: the bytes that a store gives, though none is there or needed, in bounded memory."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cnnlens.activations import passes
from cnnlens.activations.extract import even_batch
from cnnlens.data.animals import make_animals

from .photos import write_nets
from .runner import Answer, cnnlens, files
from .test_cluster import write_classes

KINDS = ["ant", "bee", "cat"]
ODD = ["--batch-size", 13]  # a store is filled eight at a time then


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks, and 72 photos in three classes; of the second one is damaged."""
    folder = tmp_path_factory.mktemp("world")
    write_nets(folder)
    write_classes(folder / "kinds", KINDS, each=24)
    bad = folder / "kinds" / "bee" / "05.png"
    bad.write_bytes(bad.read_bytes()[:100])
    return folder


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_animals(tmp_path_factory.mktemp("data") / "animals", 60, 48)


def run(name: str, data: Path, world: Path, space: Path, *more: object, size: int = 48) -> Answer:
    """Carry a command out: on conv1, on the photos or, as stability does, on objects."""
    net = "zoo:demo_net" if name == "stability" else f"{world / 'nets.py'}:rgb"
    command, *only = name.split()
    given = ["--image-size", size, "-d", data, "-l", "conv1", "-w", space, *only, *more]
    answer = cnnlens(command, net, *given)
    assert answer.code == 0, answer.err
    return answer


COMMANDS = ["units", "stability", "cluster --only=categories", "cluster --only=filters"]


def extra(name: str, data: Path) -> list[object]:
    more = {"stability": ["--negatives", data / "negatives"], "units": []}
    return [*more.get(name, ["--bootstrap", 5]), *ODD]


@pytest.mark.parametrize("name", COMMANDS)
def test_results_are_the_same_bytes_and_serve_either_way(
    name: str, world: Path, animals: Path, tmp_path: Path
) -> None:
    data = animals if name == "stability" else world / "kinds"
    given = [*extra(name, data), *([] if name == "stability" else ["-l", "conv2"])]
    kept, streamed = tmp_path / "kept", tmp_path / "streamed"
    run(name, data, world, kept, *given)
    answer = run(name, data, world, streamed, "--no-store", *given)
    assert name == "stability" or "skipped bee/05.png" in answer.err
    assert list((kept / "activations").rglob("*.h5"))
    assert not (streamed / "activations").exists()
    command = name.split(maxsplit=1)[0]
    results = files(kept / command)
    assert results and files(streamed / command) == results
    assert files(streamed / "images") == files(kept / "images")

    for space, how in ((kept, "--no-store"), (streamed, "--store")):  # the other way round
        assert "done before" in run(name, data, world, space, how, *given).err
        assert files(space / command) == results
    assert not (streamed / "activations").exists()


@pytest.mark.parametrize("name", ["units", "cluster --only=categories"])
def test_beside_a_store_of_half_precision_results_are_those_of_full(
    name: str, world: Path, tmp_path: Path
) -> None:
    data, command = world / "kinds", name.split(maxsplit=1)[0]
    plain, half = tmp_path / "plain", tmp_path / "half"
    run(name, data, world, plain, "--no-store", *extra(name, data))
    run("extract", data, world, half, "--dtype", "float16")
    run(name, data, world, half, *extra(name, data))
    rounded = files(half / command)
    assert "done before" not in run(name, data, world, half, "--no-store", *extra(name, data)).err
    assert rounded != files(half / command) == files(plain / command)
    (summary,) = (half / command).rglob("summary.json")
    assert '"dtype": "float32"' in json.dumps(json.loads(summary.read_text()))


def test_units_are_compared_with_stores_that_are_there_and_with_layers_that_were_done(
    world: Path, tmp_path: Path
) -> None:
    data, kept, streamed = world / "kinds", tmp_path / "kept", tmp_path / "streamed"
    run("units", data, world, kept, "-l", "conv2", "--no-page")
    run("units", data, world, streamed, "-l", "conv2", "--no-page", "--no-store")
    (streamed / "units" / "conv2" / "summary.json").unlink()  # conv1 is done, conv2 is not
    run("units", data, world, streamed, "-l", "conv2", "--no-page", "--no-store")
    assert files(streamed / "units") == files(kept / "units")

    only = tmp_path / "only"
    run("extract", data, world, only)  # conv1
    run("units", data, world, only, "--no-page", "--no-store", "-l", "conv2")
    assert files(only / "units") == files(kept / "units")


def streamed(name: str, data: Path, world: Path, space: Path) -> None:
    fewer = {"units": [], "stability": ["--top", 0, "--chance", 0]}.get(name, ["--bootstrap", 0])
    more = ["--no-store", "--batch-size", 4, "--workers", 0, "--no-page", *fewer]
    run(name, data, world, space, *more, size=96)


def peak(*given: Any) -> int:
    """Most bytes of arrays that `streamed` holds at once."""
    gc.collect()
    gc.freeze()  # so that what pytest holds does not put off that figures are cleared away
    gc.collect()
    tracemalloc.start()
    try:
        streamed(*given)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.unfreeze()


@pytest.mark.parametrize("name", COMMANDS)
def test_more_images_take_no_more_memory_but_for_small_tables(
    name: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(values: Sequence[torch.Tensor]) -> Callable[[], list[np.ndarray]]:
        arrays = [value.float().numpy().copy() for value in values]  # memory numpy knows of
        return lambda: arrays

    monkeypatch.setattr(passes, "fetched", counted)
    monkeypatch.setattr("cnnlens.cluster.vectors._HELD", 1)  # maps of one category at a time
    few, many = (30, 54) if name == "stability" else (18, 66)
    for count in (few, many):
        if name == "stability":
            make_animals(tmp_path / f"{count}", count, 48)
        elif "filters" in name:  # as large ones, but more of them
            write_classes(tmp_path / f"{count}", [f"c{i:02}" for i in range(count // 6)], each=6)
        else:
            write_classes(tmp_path / f"{count}", KINDS, each=count // 3)
    streamed(name, tmp_path / f"{few}", world, tmp_path / "warm")  # compiles, imports
    small, large = (
        peak(name, tmp_path / f"{count}", world, tmp_path / f"space{count}")
        for count in (few, many)
    )
    units, side = (32, 96) if name == "stability" else (6, 46)
    maps = 4 * units * side**2  # bytes of an image's maps
    assert large - small < 0.2 * (many - few) * maps


def test_odd_batches_are_those_of_a_store() -> None:
    assert [even_batch(n) for n in (1, 13, 32, 47, 64, 100)] == [1, 8, 32, 32, 64, 96]
