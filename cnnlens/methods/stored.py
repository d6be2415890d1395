"""What methods share that look at a layer's stored activations, category by category."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from cnnlens.files import to_json
from cnnlens.progress import Step, relayed

if TYPE_CHECKING:
    from cnnlens.activations.store import Store
    from cnnlens.cluster.vectors import Groups
    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.layers import Layer
    from cnnlens.study.session import Study

Found = TypeVar("Found")


def mark(value: Any) -> str:
    """Hash what may be long: equal marks, equal values."""
    return hashlib.sha256(to_json(value, only_ascii=True).encode()).hexdigest()[:16]


def stored_type(study: Study, images: ImageSet, layer: Layer) -> str | None:
    """Type of the numbers in a layer's store; None where there is no store of just these images."""
    store = study.stored(images, layer)
    if store is None:
        return None
    with store:
        return store.key.dtype


def store_key(study: Study, images: ImageSet, layer: Layer, **more: Any) -> dict[str, Any]:
    """Say what results depend on that are found in a layer's store, and in nothing but
    the categories of its images.
    """
    dtype = stored_type(study, images, layer) or "float32"
    return study.key(layer, images, labels=mark(images.image_categories), dtype=dtype, **more)


def detected(study: Study, layer: Layer) -> dict[int, str]:
    """Say what the layer's units detect, as far as it was dissected."""
    from cnnlens.report.dissect_files import detected as read

    return read(study.workspace.path, layer.folder)


def fill(study: Study, images: ImageSet, layer: Layer) -> Iterator[Step]:
    """Make a layer's store where there is none; the model is not run otherwise.

    A new one gets the class scores too, where there are some, for other commands.
    """
    from cnnlens.model.classes import gives_scores

    if stored_type(study, images, layer) is None:
        yield from study.fill(images, [layer], logits=gives_scores(study.model))


def groups_of(images: ImageSet, store: Store) -> Groups | None:
    """Group a store's rows by the categories that its images have now; None without categories."""
    from cnnlens.cluster.vectors import group

    categories = images.image_categories
    return None if categories is None else group([categories[at] for at in store.positions])


def staged(stage: str, steps: Generator[Step, None, Found]) -> Generator[Step, None, Found]:
    """Pass on steps under one name; return what they return."""
    return relayed(steps, lambda step: replace(step, stage=stage))
