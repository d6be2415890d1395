"""Threads that share a network do not hear each other."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cnnlens
from cnnlens.model.alone import Helpers, alone
from cnnlens.model.hooks import read, swapping
from cnnlens.model.trace import Place
from tests.model.nets import small_net

FED = cnnlens.Preprocess((16, 16), (0.5,) * 3, (0.5,) * 3)
PHOTOS = list(np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8))


def in_a_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work).result()


def between(net: nn.Module, work: Callable[[], None], images: int = 2) -> None:
    """Have another thread do something amid each pass of this thread, on so many images."""
    own = threading.get_ident()

    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if threading.get_ident() == own and len(output) == images:
            in_a_thread(work)

    net.register_forward_hook(hook)


@pytest.mark.parametrize("place", [Place("4"), Place(op=3, op_name="relu", module="4", nth=0)])
def test_a_pass_of_another_thread_is_not_read(place: Place) -> None:
    net, x, other = small_net().eval(), torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    expected, wanted = net[:5](x), net(other)
    outputs = []
    between(net[0], lambda: outputs.append(net(other)))
    (found,) = read(net, x, [place])
    assert torch.equal(found, expected.detach())
    assert torch.equal(outputs[0], wanted)  # and it ran to its end


@pytest.mark.parametrize("place", [Place("4"), Place(op=3, op_name="relu", module="4", nth=0)])
def test_a_pass_of_another_thread_is_not_changed(place: Place) -> None:
    net, x = small_net().eval(), torch.rand(2, 3, 16, 16)
    expected = net(x)
    outputs = []
    between(net[0], lambda: outputs.append(net(x)))
    with torch.no_grad(), swapping(net, place, torch.zeros_like):
        assert torch.equal(net(x), net[7].bias.expand(2, -1))
    assert torch.equal(outputs[0], expected)


def test_commands_measure_their_own_passes(tmp_path: Path) -> None:
    net = small_net()
    x = FED.normalize(torch.from_numpy(np.stack(PHOTOS)).permute(0, 3, 1, 2))
    with torch.no_grad():
        expected = small_net().eval()[:5](x)
    between(net[0], lambda: net(torch.rand(9, 3, 16, 16)), images=len(PHOTOS))
    lens = cnnlens.Investigation(net, tmp_path, preprocess=FED, quiet=True)
    store = lens.extract(data=PHOTOS, layer="conv2")
    torch.testing.assert_close(torch.from_numpy(store[0:9]), expected)


@pytest.mark.parametrize("shares", ["investigation", "network", "wrapped network", "a part"])
def test_commands_on_one_network_wait_for_each_other(shares: str, tmp_path: Path) -> None:
    net = small_net()
    first = cnnlens.Investigation(net, tmp_path / "a", preprocess=FED, quiet=True)
    second = first
    if shares != "investigation":
        again = {"wrapped network": nn.DataParallel(net), "a part": nn.Sequential(net, nn.ReLU())}
        second = cnnlens.Investigation(
            again.get(shares, net), tmp_path / "b", preprocess=FED, quiet=True
        )
    passes: list[int] = []
    came = threading.Event()  # the second among the first's passes, which it must not
    other = threading.Thread(target=lambda: second.extract(data=PHOTOS[:5], layer="conv2"))

    def hook(*_: object) -> None:
        passes.append(threading.get_ident())
        if threading.get_ident() != own:
            came.set()
        elif not other.ident:
            other.start()
            came.wait(1)

    own = threading.get_ident()
    net.register_forward_pre_hook(hook)
    first.extract(data=PHOTOS, layer="conv2", batch_size=2)
    other.join()
    ours = [ident == own for ident in passes]
    assert ours == sorted(ours, reverse=True)
    assert len(set(ours)) == 2 or shares == "investigation"
    assert net.training and all(p.requires_grad for p in net.parameters())


def test_who_has_it_has_it_again_and_others_do_not() -> None:
    net, has = small_net(), threading.Event()

    def other() -> None:
        with alone(net):
            has.set()

    waits = threading.Thread(target=other)
    with alone(net), alone(net):
        waits.start()
        assert not has.wait(0.1)
    waits.join()
    assert has.is_set()


def test_who_waits_for_long_is_told_what_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnlens.model.alone._PATIENCE", 0.01)
    net, told = small_net(), threading.Event()

    def other() -> bool:
        with alone(net):
            return told.is_set()

    def warn(words: str, *_: object, **__: object) -> None:
        assert "in threads of its own" in words
        told.set()

    monkeypatch.setattr("warnings.warn", warn)
    with ThreadPoolExecutor(1) as threads:
        with alone(net):
            waits = threads.submit(other)
            assert told.wait(10)
            assert not waits.done()
        assert waits.result(10)


class Apart(nn.Module):
    """Runs two branches in threads of its own, as DataParallel does on several devices."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.top, self.fc = nn.Conv2d(8, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        with ThreadPoolExecutor(2) as threads:
            both = [threads.submit(branch, x) for branch in (self.a, self.b)]
        joined = torch.cat([one.result() for one in both], 1)
        found: Tensor = self.fc(self.top(joined).relu().mean((2, 3)))
        return found


def test_what_runs_in_threads_of_the_networks_own_is_named(tmp_path: Path) -> None:
    net = Apart().eval()
    lens = cnnlens.Investigation(net, tmp_path, preprocess=FED, quiet=True)
    with pytest.raises(cnnlens.UsageError, match="layer 'a' is run in a thread of its own"):
        lens.extract(data=PHOTOS, layer="a")
    with torch.no_grad(), pytest.raises(cnnlens.CnnlensError, match="a is run in a thread of its"):
        read(net, torch.rand(2, 3, 16, 16), [Place("a")])
    assert lens.extract(data=PHOTOS, layer="top")[0:9].shape == (9, 4, 12, 12)


def test_wrapping_leaves_the_mode_of_each_module() -> None:
    net = small_net()
    net[0] = nn.Conv2d(4, 6, 3, padding=1)
    net[1].eval()
    cnnlens.wrap_module(net, None)
    assert net.training and not net[1].training


class Asking(torch.utils.data.Dataset[np.ndarray]):
    """Pictures, whose reader asks an investigation how they are fed."""

    def __init__(self, lens: Any) -> None:
        self.lens = lens

    def __len__(self) -> int:
        return len(PHOTOS)

    def __getitem__(self, number: int) -> np.ndarray:
        assert self.lens.model.preprocess.size == (16, 16)
        return np.asarray(PHOTOS[number])


ASKING = """
import faulthandler; faulthandler.dump_traceback_later(60, exit=True)  # it had waited for ever
import sys; sys.path.insert(0, {folder!r})
from test_alone import FED, Asking, cnnlens, small_net
lens = cnnlens.Investigation(small_net(), {out!r}, preprocess=FED, quiet=True, workers=2)
lens.units(data=Asking(lens), layer="4")
"""


def test_a_data_set_that_is_read_in_threads_may_ask_for_the_network(tmp_path: Path) -> None:
    code = ASKING.format(folder=str(Path(__file__).parent), out=str(tmp_path / "out"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_helpers_have_what_the_one_that_they_work_for_has() -> None:
    net = small_net()

    def is_had() -> bool:
        with alone(net):
            return True

    with Helpers(2) as helpers, ThreadPoolExecutor(1) as others:
        with alone(net):
            assert all(helpers.map(lambda _: is_had(), range(4), timeout=10))
            other = others.submit(is_had)
            assert not wait([other], timeout=0.1).done
        assert other.result(10)
