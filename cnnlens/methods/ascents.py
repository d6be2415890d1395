"""Pictures of one layer on their way: what they are optimized for, and what stands beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError, plain
from cnnlens.files.begun import Begun
from cnnlens.methods.pictured import Part
from cnnlens.progress import Step

if TYPE_CHECKING:
    from cnnlens.model.model import Model
    from cnnlens.study.session import Study
    from cnnlens.synthesize.goals import Goal
    from cnnlens.synthesize.objective import Objective
    from cnnlens.synthesize.visualize import Picture


@dataclass
class Ascents(Part):
    """Pictures of one layer (of classes, where there is none), and how far they have come."""

    unreachable: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # by name: how far they came
    mistaken: dict[str, str] = field(default_factory=dict)  # of classes: what they are taken for
    images: dict[str, Any] = field(default_factory=dict)  # made by this run, by name
    examples: Any = None  # what the data shows of the units

    def __post_init__(self) -> None:
        # an image's later variants wait for the earlier ones
        numbers = sorted({item.subject.variant for item in self.todo})
        rounds = [[item for item in self.todo if item.subject.variant == n] for n in numbers]
        self.rounds = [Begun(self.ledger, items) for items in rounds]

    def objective(self, goal: Goal, model: Model) -> Objective:
        """A picture's objective; of a later variant, apart from the earlier ones."""
        import torch

        from cnnlens.model.layers import find_layers
        from cnnlens.report.figures.visualize import read_picture
        from cnnlens.synthesize.diversity import apart, grams

        if goal.variant == 1:
            return goal.objective
        first = goal.name.rpartition("~")[0]
        names = [first] + [f"{first}~{number}" for number in range(2, goal.variant)]
        for name in names:
            if name not in self.images:
                file = self.ledger.folder / f"{name}.png"
                self.images[name] = read_picture(file, model.preprocess.channels)
        layer = self.layer or find_layers(model).resolve("last")
        images = [torch.from_numpy(self.images[name]) for name in names]
        return apart(goal.objective, layer, grams(model, layer, images))

    def failure(self, goal: Goal, picture: Picture, anywhere: bool) -> str:
        """Say why a picture does not show what excites its unit; empty where it does.

        It is held against the data's best image where it was made large `anywhere` on the map.
        """
        if picture.final <= picture.initial:
            return f"stays at {plain(picture.final)}"
        best = self.examples.best(goal.about["unit"]) if self.examples and anywhere else None
        if goal.variant == 1 and best is not None and picture.final < best:
            data = (self.examples.best_of or {}).get("name", "the data")
            return f"comes to {plain(picture.final)}, the best image of {data} to {plain(best)}"
        return ""

    def read_stores(self, study: Study) -> None:
        """Read what the workspace's data says of the units, the data used last first."""
        from cnnlens.report.figures.dataset_examples import DatasetExamples

        if self.layer is None:
            return
        units = [item.subject.about["unit"] for item in self.items]
        units = [unit for unit in units if unit is not None]
        self.examples = DatasetExamples(study.model, self.layer, units)
        activations, file = study.workspace.path / "activations", f"{self.layer.folder}.h5"
        stores = (
            (activations / data["name"] / file, partial(study.remembered, data))
            for data in reversed(study.workspace.document["data"])
        )
        try:
            self.examples.read_stores(stores if units else ())
        except CnnlensError as error:
            study.voice.note(f"no top images beside the pictures: {error.message}")
        if (lost := self.examples.outdated) and self.examples.best_of is None:
            study.voice.note(
                f"no top images beside the pictures: those of {lost.parent.name} have changed "
                f"since they were stored (cnnlens extract -l {self.name} stores these)"
            )

    def label(self, workspace: Path) -> None:
        """Bring the labels of all pictures to what the dissection says now; raise where it is
        damaged.
        """
        from cnnlens.report.dissect_files import labels

        known = labels(workspace, self.name)
        for entry in self.ledger.entries.values():
            if entry["unit"] in known:
                entry["label"] = known[entry["unit"]][0]
            else:
                entry.pop("label", None)

    def set_beside(self) -> Iterator[Step]:
        """Draw a row per unit: its pictures, its weights, the data's top images, the peaks."""
        from cnnlens.report.figures.visualize import title_of

        entries = [entry for entry in self.entries if entry["unit"] is not None]
        firsts = [entry for entry in entries if entry.get("variant", 1) == 1]
        self.examples.find_nearest(self.ledger.folder, firsts)
        for number, entry in enumerate(firsts):
            yield Step(number, len(firsts), "setting beside", unit="pictures")
            label = f" · {entry['label']}" if entry.get("label") else ""
            stem = Path(entry["file"]).stem
            more = [e for e in entries if Path(e["file"]).stem.startswith(f"{stem}~")]
            title = f"{self.name} {title_of(entry)}{label}"
            gained = self.examples.write(self.ledger.folder, entry, title, more)
            for one in (entry, *more):
                one.update(gained)
                for key in ("times_best", "best_of") if gained else ():
                    one.pop(key, None)  # of earlier images
                if best := max(0.0, self.examples.best(one["unit"]) or 0.0):
                    one |= {"times_best": one["final"] / best, "best_of": self.examples.best_of}
