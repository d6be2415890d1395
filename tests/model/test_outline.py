from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from threading import Barrier, BrokenBarrierError

import pytest
from torch import nn

from cnnlens.model import outline
from cnnlens.model.architectures import shapes_of, torchvision, weightless
from cnnlens.model.fit import quick_fit
from cnnlens.model.zoo import ZOO, architecture


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch):
    monkeypatch.setattr(outline, "_KEPT", {})


def shapes(known, **options):
    with weightless():
        return shapes_of(known.make(**options).state_dict())


def named(name):
    timm = pytest.importorskip("cnnlens.model.architectures.timm")
    return {"timm": timm, "tv": torchvision}[name.partition(":")[0]].architecture(
        name.partition(":")[2]
    )


@pytest.mark.parametrize("name", ["tv:resnet18", "tv:mnasnet0_5", "timm:vgg11_bn"])
def test_what_was_seen_before_changes_no_answer(name, monkeypatch):
    known = named(name)
    asked = [
        shapes(named("tv:alexnet")),  # it differs at once
        shapes(named("tv:resnet34")),  # later
        shapes(known, num_classes=7),
        shapes(known),
        shapes(named("tv:resnet34")),
        {},
    ]
    outline.outline(known, next(iter(known.options(asked[0]))))  # for its names alone
    kept = [quick_fit(known, one) for one in asked]
    for one, answer in zip(asked, kept, strict=True):
        monkeypatch.setattr(outline, "_KEPT", {})  # as a process that has seen nothing
        assert quick_fit(known, one) == answer
    assert kept[2][0].options["num_classes"] == 7 and kept[3][0].exact


def test_what_was_built_is_not_built_again_and_what_was_not_only_from_there_on(monkeypatch):
    known, made = named("tv:resnet18"), []
    counting = replace(known, make=lambda **more: made.append(more) or known.make(**more))
    own, other = shapes(known), shapes(named("tv:alexnet"))
    assert quick_fit(counting, other)[0] is None and len(made) == 1
    assert quick_fit(counting, other)[0] is None and len(made) == 1  # the first layers say so
    assert quick_fit(counting, own)[0].exact and len(made) == 2
    assert quick_fit(counting, own)[0].exact and len(made) == 2


def test_another_builder_of_the_same_name_is_built(monkeypatch):
    narrow = nn.Sequential(nn.Conv2d(3, 4, 3))
    one = architecture("demo_net")
    assert outline.outline(one, {}).tensors["conv1.weight"] == (32, 3, 5, 5)
    monkeypatch.setitem(ZOO, "demo_net", replace(ZOO["demo_net"], make=lambda: narrow))
    assert outline.outline(architecture("demo_net"), {}).tensors["0.weight"] == (4, 3, 3, 3)


def test_code_of_a_user_is_built_each_time():
    nets = iter([nn.Conv2d(3, 4, 3), nn.Conv2d(3, 5, 3)])
    mine = replace(named("tv:resnet18"), name="mine.py:make", lazy=False, make=lambda: next(nets))
    found = [outline.outline(mine, {}).tensors["weight"][0] for _ in range(2)]
    assert found == [4, 5]


def test_threads_that_ask_for_one_network_note_its_layers_once(monkeypatch):
    started, known = Barrier(2), named("tv:resnet18")

    def make(**more):
        with suppress(BrokenBarrierError):
            started.wait(0.05)  # the other thread is not let in meanwhile
        return known.make(**more)

    slow, own = replace(known, make=make), shapes(known)
    with ThreadPoolExecutor(2) as pool:
        found = [one[0] for one in pool.map(lambda _: quick_fit(slow, own), range(2))]
    assert all(one is not None and one.exact for one in found)
    seen = [one.layers for one in outline._KEPT.values()]
    monkeypatch.setattr(outline, "_KEPT", {})
    assert quick_fit(known, own)[0].exact
    assert seen == [one.layers for one in outline._KEPT.values()]
