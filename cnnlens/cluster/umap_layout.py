"""UMAP's layout of vectors whose neighbours are known (McInnes, Healy & Melville 2018).

What numba compiles of UMAP is kept, as UMAP itself has it kept of most of what it is built on:
otherwise every process would compile it anew, for longer than a few thousand images take.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from cnnlens.cluster.neighbours import Neighbours
from cnnlens.model.device import own_threads

_COMPILED = (
    ("umap_", "smooth_knn_dist"),
    ("umap_", "compute_membership_strengths"),
    ("layouts", "_nb_optimize_layout_euclidean_single_epoch"),
)


def umap_layout(
    vectors: np.ndarray, near: Neighbours, dimensions: int, seed: int = 0
) -> np.ndarray:
    """Lay vectors out.

    Parameters
    ----------
    vectors : numpy.ndarray
        (N, L).
    near : Neighbours
        The nearest ones of each, itself first.
    dimensions : int
        Of the layout.
    seed : int
        Of the beginning and of what is sampled.

    Returns
    -------
    numpy.ndarray
        (N, dimensions) float32.
    """
    with warnings.catch_warnings(), own_threads():
        warnings.simplefilter("ignore")  # that a seed means one thread; that no index was given
        from umap import UMAP

        _keep_compiled()
        method = UMAP(
            n_neighbors=near.rows.shape[1],
            n_components=dimensions,
            random_state=seed,
            n_jobs=1,
            init="spectral" if len(vectors) > 3 * dimensions + 10 else "random",
            precomputed_knn=(near.rows, near.distances),
        )
        found = method.fit_transform(vectors)
    return np.asarray(found, np.float32)


@cache
def _keep_compiled() -> None:
    """Have numba keep what it compiles, beside UMAP or among the user's caches.

    Where it may write to neither, it keeps it for this process alone (`files.lent`); where another
    version of UMAP has other functions, nothing is kept.
    """
    import umap

    for module, name in _COMPILED:
        function: Any = getattr(getattr(umap, module, None), name, None)
        with suppress(AttributeError, RuntimeError):
            function.enable_caching()
            function._cache = _Cautious(function._cache)


class _Cautious:
    """numba's cache of a function, which a full disk does not stop."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def save_overload(self, *compiled: Any) -> None:
        with suppress(OSError):
            self._cache.save_overload(*compiled)
