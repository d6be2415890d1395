"""``cnnlens net2vec``: concepts as combinations of units."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.files import make_folder, mark, write_npz
from cnnlens.methods.measurement import EACH_ONCE, Measurement
from cnnlens.methods.method import Results, page_part
from cnnlens.progress import Step, relayed
from cnnlens.settings import ExtractSettings, Net2VecSettings

if TYPE_CHECKING:
    from cnnlens.activations.sources import Source
    from cnnlens.measure.embeddings import Embeddings
    from cnnlens.model.layer import Layer

KEPT_EVERY = 10.0  # seconds after which the state of learning is kept


class Net2Vec(Measurement):
    """Concepts as weights over units, beside the best single unit.

    Learns from the train split which combination of a layer's units finds each concept of the
    label maps, and validates it on the other, beside the unit that does best alone; how many units
    it takes, and what shuffled label maps give. A concept is a direction that visualize draws:
    -f LAYER:[category:label]. Tables go to WORKSPACE/net2vec, the page to WORKSPACE/report.html.
    """

    name, panel = "net2vec", "Measure units"
    settings_types = (Net2VecSettings, ExtractSettings)
    kinds, vectors = ("broden",), True
    sections = (("net2vec", page_part("net2vec.concepts")),)
    examples = (
        "cnnlens net2vec model.pt -d broden1_224 -l conv5",
        "cnnlens net2vec -l layer4 --preset paper --filters 1,8,64",
    )
    reader = "net2vec_files.read_net2vec"

    def resolve(self) -> None:
        """Find label maps and layers; say which images are learned from."""
        from cnnlens.data.splits import two_splits

        super().resolve()
        self.stored = self.all_settings[1]
        self.split = two_splits(self.images, self.settings.seed)[1]

    def made_from(self, layer: Layer) -> dict[str, Any]:
        """Name the labels and their images, the network, the settings."""
        settings = self.settings.as_dict() | {
            "filters": [size for size in self.settings.sizes if size < layer.units],
            "lr": self.settings.rate,
        }
        dtype = self.stored_as(layer)
        return {**self.study.key(layer, self.images, dtype=dtype, settings=settings), **EACH_ONCE}

    def plan(self) -> str:
        """Say what is learned from which images, and what has no map."""
        words = super().plan()
        for layer in self.todo:
            if layer.shape[1:] == (1, 1):
                self.study.voice.note(
                    f"{layer.name} has no map: concepts are told of whole images, not of pixels"
                )
        return f"{words}; {self.split}" if words else ""

    def measure(self, source: Source, layers: list[Layer]) -> Generator[Step, None, Sequence[Any]]:
        """Learn the concepts of a layer, on from where an earlier run was stopped."""
        from cnnlens.measure.distinct import among
        from cnnlens.measure.net2vec import LearningStep, net2vec_steps

        (layer,) = layers
        source = among(source, (yield from self.each_once(source, layer, self.images)))
        folder, made_from = self.folder(layer), mark(self.made_from(layer))
        make_folder(folder)
        file = folder / ".unfinished.npz"
        begun = None if self.study.force else read_state(file, made_from)
        steps = net2vec_steps(
            source, self.images, self.settings, self.study.run.workers, folder, [begun]
        )
        last: Mapping[str, Any] | None = None
        kept = time.monotonic()

        def keep(step: Step) -> Step:
            nonlocal last, kept
            if isinstance(step, LearningStep) and step.state is not None:
                last = step.state
                if time.monotonic() - kept >= KEPT_EVERY:
                    write_npz(file, made_from=made_from, **last)
                    last, kept = None, time.monotonic()
            return step

        try:
            return (yield from relayed(steps, keep))
        except BaseException:
            if last is not None:
                write_npz(file, made_from=made_from, **last)
            raise

    def write(self, folder: Path, layer: Layer, found: Embeddings) -> Iterator[int]:
        """Write the tables, and a strip of top images per concept, under the combination's mask."""
        from cnnlens.report.figures.dissect import write_strips
        from cnnlens.report.net2vec_files import write_tables

        for one in found.left_out:
            self.study.voice.note(f"{one.category}:{one.label} is left out: {one.reason}")
        write_tables(folder, found, self.images.paths)
        if found.top is not None:
            yield from write_strips(
                folder / "pictures", self.images, found.top, found.cut,
                self.study.model.preprocess, self.study.run.workers,
            )  # fmt: skip

    def show(self, results: Results) -> None:
        """Show each layer's concepts of largest gain, then all by category."""
        from cnnlens.measure.embeddings import LAYER_COLUMNS, concept_table, layer_rows

        for layer in self.layers:
            found = self.read(self.folder(layer))
            title = f"{layer.name}: concepts that gain most by combination"
            results.table(*concept_table(found.best(10)), title=title)
        rows = [row for summary in self.summaries.values() for row in layer_rows(summary)]
        results.table(LAYER_COLUMNS, rows, title="IoU on the images that validate")
        results.say(f"tables: {self.study.folder(self.name)}")


def read_state(file: Path, made_from: str) -> dict[str, Any] | None:
    """Read where an earlier run of the same learning was stopped; a damaged file counts as none."""
    import numpy as np

    try:
        with np.load(file, allow_pickle=False) as found:
            state = dict(found)
    except Exception:  # not there, or whatever a file cut short makes of itself
        return None
    return state if str(state.pop("made_from", "")) == made_from else None
