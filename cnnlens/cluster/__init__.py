"""How a network organizes what it knows: trees of categories and of filters, embeddings.

``cnnlens.cluster`` is this package, and the function as well: ``cnnlens.cluster(store, groups)``
does what `cnnlens.cluster.clustering.cluster` does.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnlens.cluster.clustering import Clustering


class _Callable(ModuleType):
    """A package that can be called, since one name cannot be bound to a package and a function."""

    def __call__(self, *args: Any, **options: Any) -> Clustering:
        """Call `cnnlens.cluster.clustering.cluster`."""
        from cnnlens.cluster.clustering import cluster

        return cluster(*args, **options)


cluster = sys.modules[__name__]  # where `cnnlens` looks the name up
cluster.__class__ = _Callable
