"""What a study calls the outputs of its network: by what was said, else by its class folders.

Names hold for all commands of a workspace, which records them with their source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.matching import Reading
    from cnnlens.model.model import Model
    from cnnlens.study.session import Study


def recalled(model: Model, entry: Mapping[str, Any] | None) -> Model:
    """Give a network the names that its workspace knows, where it has none of its own.

    Parameters
    ----------
    model : Model
        As opened, without names that were said anew.
    entry : mapping or None
        What the workspace recorded of its model.
    """
    names, source = (entry or {}).get("classes"), str((entry or {}).get("classes_source") or "")
    if model.classes_source == "given":
        return model
    said = source.startswith("--classes") or source == "given"
    if not (isinstance(names, list) and entry and entry["fingerprint"] == model.fingerprint):
        return model
    if said or (source and (model.classes is None or model.has_assumed_classes)):
        return model.called([str(name) for name in names], source)
    return model


def named(study: Study, images: ImageSet | None, order: str | None) -> Model:
    """Name a network's outputs after the folders of class-folder data, where that is due.

    Parameters
    ----------
    study : Study
        Whose model and data.
    images : ImageSet or None
        The data that a command holds against the classes; None: what the workspace knows.
    order : str or None
        One of `settings.run.ORDERS` that was said.

    Raises
    ------
    UsageError
        When `images` do not bear their usual order out, or an order was said and no data has it.
    """
    model: Model = study.model
    if order is None and model.classes and not model.has_assumed_classes:
        return model
    for data in (images,) if images is not None else _known(study):
        found = _after(study, data, order, must=images is not None)
        if found is not None:
            return found
    if order is not None:
        raise UsageError(
            f"--classes {order}: no data with as many class folders as the network has outputs",
            "name a folder with -d DIR, or a file of names",
        )
    return model


def _known(study: Study) -> Iterator[ImageSet]:
    """Data with categories that this run or the workspace knows, the latest first."""
    for images, *_ in reversed(study._images):
        yield images
    for entry in reversed(study.workspace.document["data"]):
        if entry["kind"] in ("classes", "parts"):
            with suppress(CnnlensError):  # it was moved away
                yield study.remembered(entry)


def _after(study: Study, images: ImageSet, order: str | None, must: bool) -> Model | None:
    """Name the outputs after the folders of one data set; None where that cannot be."""
    from cnnlens.model.classes import count_scores
    from cnnlens.model.matching import NAMES, in_order, readings

    model, categories = study.model, images.image_categories or ()
    names = sorted(set(categories))
    if len(names) < 2 or not (count := count_scores(model)):
        return None
    if order is not None:
        source = f"--classes {order}: {images.name}'s folders"
        return _called(study, in_order(names, order), source) if len(names) == count else None
    ways = readings(names, model.classes, count)
    if not ways or ways[0].by == NAMES or (len(names) != count and not must):
        return None
    if not (must and model.has_random_weights) and not _borne_out(study, images, ways, must):
        return None
    if len(names) != count:  # folders that are called by numbers, of some of the classes
        return model
    numbers, words = ways[0].outputs, ways[0].words
    if model.classes:
        study.voice.note(f"ImageNet's names are not {images.name}'s: they are left out")
    source = f"the folders of {images.name} {words}"
    return _called(study, sorted(names, key=lambda name: numbers[name]), source)


def _called(study: Study, names: list[str], source: str) -> Model:
    study.voice.note(f"classes: {source} ({', '.join(names[:3])}, …)")
    return study.model.called(names, source)


def _borne_out(study: Study, images: ImageSet, ways: list[Reading], must: bool) -> bool:
    """Whether some of the images bear the usual order out.

    Where that `must` be, it is enough that they do not speak against it, which is raised.
    """
    from cnnlens.model.matching import check_order, judge

    logits, shown = _answers(study, images)
    if not len(shown):
        return False
    try:
        judged = check_order(ways, logits, shown, images.name)
    except UsageError:
        if must:
            raise
        judged = judge(ways, logits, shown)
    if must or (judged and not judged.doubt and judged.is_above_chance):
        return True
    words = judged.words if judged else ""
    study.voice.note(f"classes without names (--classes says them): as {images.name}'s, {words}")
    return False


def _answers(study: Study, images: ImageSet) -> tuple[np.ndarray, list[str]]:
    """What the network says of some images, (n, K), and their categories."""
    import numpy as np
    import torch

    from cnnlens.activations.sources import Forward
    from cnnlens.data.decode import DamagedImage
    from cnnlens.model.matching import chosen

    known, pixels, shown = images.image_categories or (), [], []
    for row in chosen(known):
        with suppress(DamagedImage):
            pixels.append(images.pixels(row, study.model.preprocess))
            shown.append(known[row])
    if not pixels:
        return np.empty((0, 0)), []
    forward = Forward(study.model, [], logits=True, limit=study.run.batch_size)
    _, logits = forward(torch.from_numpy(np.stack(pixels)))
    assert logits is not None
    return logits, shown
