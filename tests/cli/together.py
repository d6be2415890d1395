"""Processes of one run, forked with what torchrun tells its own."""

from __future__ import annotations

from collections.abc import Sequence

from torch.distributed import TCPStore

from tests import warm

from .runner import environment

TABLES: list[TCPStore] = []  # kept here, as torchrun keeps its own


def start(
    count: int, *words: object, each: Sequence[Sequence[object]] = (), attempt: int = 0
) -> list[warm.Process]:
    """Start so many processes of one run, to `each` of which more may be said; another attempt at
    the last one finds the table of those before.
    """
    if not attempt:
        TABLES.append(TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(TABLES[-1].port)}
    shared |= {"WORLD_SIZE": str(count), "TORCHELASTIC_RESTART_COUNT": str(attempt)}
    shared |= {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    shared |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "CNNLENS_WORKSPACE": ""}
    return [
        warm.Process(
            warm.command,
            (*words, *(each[n] if each else ())),
            {**environment(**shared), "RANK": str(n), "LOCAL_RANK": str(n)},
        )
        for n in range(count)
    ]


def end(running: list[warm.Process]) -> list[tuple[int, str, str]]:
    said = [one.communicate() for one in running]
    return [(one.wait(), *texts) for one, texts in zip(running, said, strict=True)]
