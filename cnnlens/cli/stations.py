"""The stations of ``cnnlens demo``: one command each, on the same network and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnlens.cli.options import command_line
from cnnlens.cli.screen import Screen
from cnnlens.methods import carry_out
from cnnlens.settings import (
    CamSettings,
    ClusterSettings,
    DeconvSettings,
    DissectSettings,
    ExtractSettings,
    InvertSettings,
    RunSettings,
    VisualizeSettings,
)
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace

LAYERS = ("conv1", "conv2", "conv3")
# at the usual 0.04 even untrained filters detect a red figure on white; from here on few do
MIN_IOU = 0.15
_ARCH = "zoo:demo_net"
_SHOWN = 6  # units that are looked at closely, each the best detector of another concept
_FIRST = 4  # filters of the first layer, drawn beside their weights
_CLASSES = ("red square", "green circle", "blue triangle")
_PHOTOS = 2
_EACH = 30  # pictures of each kind of figure, for the trees


@dataclass
class Tour:
    """What the stations share: where things are, and what was found so far.

    Attributes
    ----------
    screen : Screen
        Where progress goes.
    out : pathlib.Path
        The demo's folder: data, checkpoints, one workspace per network.
    images, epochs, seed : int
        Of the data and the training.
    force : bool
        Do everything anew.
    summaries : dict
        Of the dissections: network, layer, ``summary.json``.
    """

    screen: Screen
    out: Path
    images: int
    epochs: int
    seed: int
    force: bool
    summaries: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """The labelled set."""
        return self.out / "shapes"

    @property
    def kinds(self) -> Path:
        """Pictures in class folders, one per kind of figure."""
        return self.out / "kinds"

    def space(self, name: str = "trained") -> Workspace:
        """Open a network's workspace."""
        return Workspace(self.out / name, self.force)

    def study(self, name: str = "trained") -> Study:
        """Open a study of a network."""
        spec, space = str(self.out / f"{name}.pt"), self.space(name)
        return Study(space, spec, run=self.run_settings, voice=self.screen, force=self.force)

    @property
    def run_settings(self) -> RunSettings:
        """How to run."""
        return RunSettings(seed=self.seed)

    @property
    def photos(self) -> list[Path]:
        """A few pictures of the set."""
        from cnnlens.data.open import open_data

        images = open_data(self.data)
        return [images.root / name for name in images.paths[:_PHOTOS]]

    @property
    def detectors(self) -> list[int]:
        """The best units of the last layer, one per concept."""
        from cnnlens.report.dissect_files import read_dissection

        layer = read_dissection(self.out / "trained" / "dissect" / LAYERS[-1])
        best: dict[str, int] = {}
        for unit in layer.best():
            best.setdefault(unit.label, unit.unit)
        return list(best.values())[:_SHOWN]


@contextmanager
def one_thread() -> Iterator[None]:
    """On so small a network several threads only wait for each other, on busy cores for long."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def draw(tour: Tour) -> None:
    """Draw the labelled set."""
    from cnnlens.data.synthetic import make_shapes

    if (tour.data / "index.csv").exists() and not tour.force:
        return
    with tour.screen.progress() as bars:
        make_shapes(
            tour.data,
            tour.images,
            seed=tour.seed + 1,
            progress=lambda done, total: bars.show("drawing shapes", done, total),
            force=tour.force,
        )
    tour.screen.note(f"shapes: {tour.images} images in {tour.data}")


@one_thread()
def train(tour: Tour) -> None:
    """Make two networks that differ in nothing but their training."""
    for name, epochs in (("untrained", 0), ("trained", tour.epochs)):
        if tour.force or not (tour.out / f"{name}.pt").exists():
            _train(tour, tour.out / f"{name}.pt", epochs)


def _train(tour: Tour, path: Path, epochs: int) -> None:
    import torch

    from cnnlens import demo as lesson
    from cnnlens.model.checkpoint import save_checkpoint
    from cnnlens.model.zoo import ZOO

    torch.manual_seed(tour.seed)
    entry = ZOO["demo_net"]
    net = entry.make(len(lesson.CLASSES))
    if epochs:
        with tour.screen.progress() as bars:
            for step in lesson.train(net, entry.preprocess, epochs=epochs, seed=tour.seed):
                bars.show("training", step.done, step.total)
    right = lesson.accuracy(net, entry.preprocess)
    tour.screen.note(f"{path.stem}: {right:.1%} of its answers are right")
    save_checkpoint(
        path, net, _ARCH, entry.preprocess, lesson.CLASSES, training={"accuracy": right}
    )


def dissect(tour: Tour) -> None:
    """Dissect both, and put the twin's figures beside the trained network's."""
    from cnnlens.methods.dissect import Dissect, DissectInputs
    from cnnlens.report.page import write_report

    asked = DissectInputs(data=tour.data, layer=LAYERS)
    for name in ("untrained", "trained"):
        settings = (DissectSettings(min_iou=MIN_IOU, seed=tour.seed), ExtractSettings())
        method = Dissect(tour.study(name), asked, settings)
        carry_out(method, command_line())
        tour.summaries[name] = method.summaries
        write_report(tour.out / name)
    _compare(tour)


def _compare(tour: Tour) -> None:
    from cnnlens.files import write_json

    for layer in LAYERS:
        twin = tour.summaries["untrained"][layer]
        keys = ("detectors", "unique_detectors", "mean_iou")
        summary = {
            **tour.summaries["trained"][layer],
            "twin": {"name": "untrained twin", **{k: twin[k] for k in keys}},
        }
        write_json(tour.out / "trained" / "dissect" / layer / "summary.json", summary)


@one_thread()
def visualize(tour: Tour) -> None:
    """Draw what excites the best detectors, the first filters and some classes most."""
    from cnnlens.methods.visualize import Visualize, VisualizeInputs

    # figures are small: one that a unit sees at one place says more than a map full of them
    settings = VisualizeSettings(steps=128, target="centre", tv=0.5, seed=tour.seed)
    units = (_units(tour), f"{LAYERS[0]}:0-{_FIRST - 1}")
    asked = VisualizeInputs(filters=units, logit=_CLASSES)
    carry_out(Visualize(tour.study(), asked, settings, page=False), command_line())


@one_thread()
def deconv(tour: Tour) -> None:
    """Project the same detectors back to the pixels that drove them."""
    from cnnlens.methods.deconv import Deconv, DeconvInputs

    asked = DeconvInputs(filters=(_units(tour),), data=tour.data)
    carry_out(Deconv(tour.study(), asked, DeconvSettings(), page=False), command_line())


def _units(tour: Tour) -> str:
    return f"{LAYERS[-1]}:{','.join(map(str, tour.detectors))}"


def cam(tour: Tour) -> None:
    """Show where two pictures speak for the two likeliest classes."""
    from cnnlens.methods.cam import Cam, CamInputs

    asked = CamInputs(image=tuple(tour.photos), layer=LAYERS[-1])
    settings = CamSettings(method="gradcam", top=2)
    carry_out(Cam(tour.study(), asked, settings, page=False), command_line())


@one_thread()
def invert(tour: Tour) -> None:
    """Make the same two pictures again, from each layer's answer alone."""
    from cnnlens.methods.invert import Invert, InvertInputs

    asked = InvertInputs(image=tuple(tour.photos), layer=LAYERS, data=tour.data)
    settings = InvertSettings(steps=150, seed=tour.seed)
    carry_out(Invert(tour.study(), asked, settings, page=False), command_line())


@one_thread()
def cluster(tour: Tour) -> None:
    """Show which kinds of figure the last layer holds close, and in which order it decides."""
    from cnnlens.data.synthetic import make_kinds
    from cnnlens.methods.cluster import Cluster, ClusterInputs

    if tour.force or not tour.kinds.is_dir():
        make_kinds(tour.kinds, _EACH, seed=tour.seed + 2)
    settings = ClusterSettings(bootstrap=100, seed=tour.seed)
    for part in ("categories", "filters"):
        asked = ClusterInputs(data=tour.kinds, layer=(LAYERS[-1],), only=part)
        carry_out(Cluster(tour.study(), asked, settings, page=False), command_line())


@one_thread()
def explain(tour: Tour) -> None:
    """Let a picture that the trees have not seen go down the filters of its kind."""
    from cnnlens.methods.explain import Explain, ExplainInputs

    asked = ExplainInputs(image=tuple(tour.photos[:1]), data=tour.kinds, layer=LAYERS[-1])
    carry_out(Explain(tour.study(), asked, page=False), command_line())
