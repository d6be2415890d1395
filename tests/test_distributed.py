from __future__ import annotations

import os

import pytest
import torch.distributed as dist

from cnnlens import distributed
from cnnlens.distributed import Share, join, leave, processes, speaks, unheard
from cnnlens.errors import UsageError


def test_shares_are_counted_from_one_and_hold_every_block_once() -> None:
    shares = [Share.parse(f"{number}/3") for number in (1, 2, 3)]
    assert [str(share) for share in shares] == ["1/3", "2/3", "3/3"]
    held = [number for share in shares for number in share.of_numbers(range(7))]
    assert sorted(held) == [*range(7)]
    # whatever is missing when it begins: shares that begin at other times agree on whose a block is
    assert {*shares[1].of_numbers([4, 5, 6])} <= {*shares[1].of_numbers(range(7))}
    assert all(share.is_apart and share.leads for share in shares)


@pytest.mark.parametrize("text", ["", "0/4", "5/4", "1", "1/", "/4", "a/4", "-1/4", "1/0", "1.0/4"])
def test_what_is_no_share_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="is not a share") as error:
        Share.parse(text)
    assert error.value.hint


def test_joined_shares_divide_what_is_missing() -> None:
    items = [3, 4, 8, 9, 10]
    held = [Share(number, 2, joined=True).of_items(items) for number in range(2)]
    assert held == [[3, 8, 10], [4, 9]]
    assert not Share(1, 2, joined=True).leads and not Share(1, 2, joined=True).is_apart


def test_one_process_is_the_whole_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")  # of a batch system, say: nobody said where to meet
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert processes() == 1 and join() == Share() and speaks()
    share = Share()
    assert share.from_first(lambda: 3) == 3 and share.gathered(4) == [4]
    assert list(share.wait()) == [] and share.leads and not share.is_apart


def test_before_they_have_met_the_first_process_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    for rank, said in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        assert speaks() is said


@pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")
def test_at_the_end_they_part(monkeypatch: pytest.MonkeyPatch) -> None:
    leave()  # of one process nobody else knows
    table = dist.HashStore()
    dist.init_process_group("gloo", store=table, rank=0, world_size=1)
    monkeypatch.setattr(distributed._Joined, "table", table)
    leave()
    assert not dist.is_initialized()


def test_what_other_code_writes_while_processes_meet_is_not_heard(
    capfd: pytest.CaptureFixture[str],
) -> None:
    print("before")
    with unheard():
        os.write(1, b"[Gloo] Rank 0 is connected to 1 peer ranks\n")
    print("after")
    assert capfd.readouterr().out == "before\nafter\n"
