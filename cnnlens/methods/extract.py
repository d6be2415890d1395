"""``cnnlens extract``: run the model once, keep what its layers answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cnnlens.methods.method import LayersInputs, Method, Results
from cnnlens.progress import Step
from cnnlens.settings import ExtractSettings
from cnnlens.settings.option import option


@dataclass(frozen=True)
class ExtractInputs(LayersInputs):
    """Which images, which layers, what of them."""

    logits: bool = option(
        True, "Keep the class scores too, where the model has classes.", panel="Output"
    )
    units: bool = option(
        True, "Find what each unit responds to as well, for the page and for `units`.",
        panel="Output",
    )  # fmt: skip


class Extract(Method):
    """Run the model once; fill activation stores.

    Each layer gets one HDF5 file in WORKSPACE/activations. An interrupted run is resumed by the
    same command. What its units respond to goes to WORKSPACE/units, as `units` finds it: `report`
    makes a page of it.
    """

    name, panel = "extract", "Find your way"
    uses, shares, vectors = (*Method.uses, "shard"), True, True
    asks, settings_types = ExtractInputs, (ExtractSettings,)
    examples = (
        "cnnlens extract model.pt -d photos/ -l conv4 -l conv5",
        "cnnlens extract -d photos/ -l last --dtype float16 --no-logits --no-units",
    )

    def resolve(self) -> None:
        """Find images and layers."""
        self.images = self.study.images(self.asked.data)
        self.layers = self.study.layers(self.asked.layer, self.vectors)

    def fill(self) -> Iterator[Step]:
        """Fill the stores that are missing."""
        from cnnlens.model.classes import gives_scores

        study = self.study
        logits = self.asked.logits and gives_scores(study.model)
        yield from study.fill(self.images, self.layers, self.settings, logits, study.force)

    def work(self) -> Iterator[Step]:
        """Fill the stores that are missing; measure the units of these layers on the way."""
        from cnnlens.methods.units import measure_units

        yield from self.fill()
        if self.asked.units:
            yield from measure_units(self.study, self.images, self.layers)

    def assist(self) -> Iterator[Step]:
        """Do this process's part of both."""
        yield from self.work()

    def close(self) -> None:
        """List the stores."""
        for layer in self.layers:
            if (found := self.study.stored(self.images, layer).summary()) is not None:
                self.summaries[layer.name] = found
                self.study.voice.skipped(found["skipped"])

    def show(self, results: Results) -> None:
        """Show what each store holds, and how large it is."""
        from cnnlens.activations.extract import STORE_COLUMNS, store_row

        results.table(STORE_COLUMNS, [store_row(found) for found in self.summaries.values()])

    def result(self) -> Any:
        """Return one layer's store, or several by layer, open for reading."""
        found = {one.name: self.study.stored(self.images, one).open() for one in self.layers}
        return self.of_layers(found)
