"""What numba keeps of UMAP changes no layout, and is never in the way."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import numpy as np
import umap

from cnnlens.cluster.neighbours import nearest
from cnnlens.cluster.umap_layout import _COMPILED, _Cautious, umap_layout
from tests import warm

VECTORS = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)


def found_kept() -> None:
    """In a process that has compiled nothing: print what was found, and what was not."""
    umap_layout(VECTORS, nearest(VECTORS, 5), 2, 3)
    for module, name in _COMPILED:
        stats = getattr(getattr(umap, module), name).stats
        print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))


def test_it_is_the_layout_of_umap_and_the_next_process_need_not_compile_it() -> None:
    near = nearest(VECTORS, 5)
    method = umap.UMAP(
        n_neighbors=near.rows.shape[1],
        n_jobs=1,
        random_state=3,
        precomputed_knn=(near.rows, near.distances),
    )
    found = umap_layout(VECTORS, near, 2, 3)
    assert np.array_equal(found, method.fit_transform(VECTORS))
    done = warm.run(found_kept, env=os.environ)
    assert done.stdout.splitlines() == ["1 0"] * len(_COMPILED), done.stderr


def test_a_full_disk_does_not_stop_it() -> None:
    def save(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = _Cautious(SimpleNamespace(save_overload=save, cache_path="there"))
    cache.save_overload("signature", "compiled")
    assert cache.cache_path == "there"
