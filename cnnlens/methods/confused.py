"""The part of ``cnnlens cluster`` that asks the network itself: what it takes for what."""

from __future__ import annotations

from collections.abc import Generator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError
from cnnlens.files import mark
from cnnlens.files.ledger import MADE_FROM, Item
from cnnlens.progress import Step

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet
    from cnnlens.study.session import Study

FILE = "confusion.json"


class Confused:
    """What is known of a network's confusions on a data set, and how that is made.

    Attributes
    ----------
    why : str
        Why there is nothing to confuse; empty where there is.
    """

    def __init__(self, study: Study, images: ImageSet, needed: bool) -> None:
        self.study, self.images = study, images
        self.folder = study.folder("cluster")
        try:
            self.why = self._lacks()
        except CnnlensError as error:
            self.why = error.message
            if needed:
                raise
        if self.why and needed:
            raise CnnlensError(f"no confusion matrix: {self.why}", "name class folders with -d DIR")

    def _lacks(self) -> str:
        from cnnlens.model.classes import count_scores
        from cnnlens.model.matching import target_outputs
        from cnnlens.report.trained import seen_in_training

        if len(names := sorted(set(self.images.image_categories or ()))) < 2:
            return f"{self.images.name} has no two classes"
        if not (count := count_scores(self.study.model)):
            return f"{self.study.model.arch} returns no class scores"
        self.read = self.study.read_classes(self.images)
        if said := seen_in_training(self.study.model.spec, self.images):
            self.study.voice.note(said)
            self.read["trained_on"] = said
        target_outputs(names, self.study.model.classes, count)  # raises where they do not fit
        return ""

    @cached_property
    def item(self) -> Item:
        """What is made, from what."""
        from cnnlens.model.ending import SIGMOID, link_mark

        classes = mark(self.study.model.classes)
        more = {**self.study.head, **link_mark(self.study.model, SIGMOID)}
        made_from = self.study.key(None, self.images, classes=classes, **more)
        return Item(FILE, made_from, ("confusion.csv", "errors.csv"))

    @cached_property
    def made(self) -> bool:
        """Whether it is there already."""
        ledger = self.study.ledger("cluster", file=FILE, listed="")
        return ledger.is_made(self.item)

    def make(self) -> Generator[Step, None, None]:
        """Run the network over the images, and write what it confuses."""
        from cnnlens.measure.confusion import confusion_steps
        from cnnlens.report.confusion_files import write_confusion
        from cnnlens.report.figures import rows_seen

        study, every = self.study, range(len(self.images.paths))
        found = yield from confusion_steps(study.model, self.images, study.run)
        seen = rows_seen(self.images, every, study.model.preprocess)
        about = {"data": {"name": self.images.name}, **self.read, MADE_FROM: self.item.made_from}
        write_confusion(self.folder, found, about, self.images.paths, seen)

    def document(self) -> dict[str, Any] | None:
        """Read what was made; None where there is nothing."""
        from cnnlens.report.confusion_files import read_confusion

        return read_confusion(self.folder) if (self.folder / FILE).is_file() else None
