"""Processes of one run, forked with what torchrun tells its own."""

from __future__ import annotations

from torch.distributed import TCPStore

from tests import warm

from .runner import environment

TABLES: list[TCPStore] = []  # kept here, as torchrun keeps its own


def start(count: int, *words: object) -> list[warm.Process]:
    """Start so many processes of one run."""
    TABLES.append(TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(TABLES[-1].port)}
    shared |= {"WORLD_SIZE": str(count), "TORCHELASTIC_RESTART_COUNT": "0"}
    shared |= {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    shared |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "CNNLENS_WORKSPACE": ""}
    return [
        warm.Process(
            warm.command, words, {**environment(**shared), "RANK": str(n), "LOCAL_RANK": str(n)}
        )
        for n in range(count)
    ]


def end(running: list[warm.Process]) -> list[tuple[int, str, str]]:
    said = [one.communicate() for one in running]
    return [(one.wait(), *texts) for one, texts in zip(running, said, strict=True)]
