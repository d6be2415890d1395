"""``cnnlens demo``: everything once, on synthetic sets, without a download."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnlens.cli import options as o
from cnnlens.cli.beside import Beside, has_room
from cnnlens.cli.screen import Screen
from cnnlens.methods import carry_out, methods, write_page
from cnnlens.methods.method import Method, build
from cnnlens.model.device import one_thread
from cnnlens.settings import RunSettings
from cnnlens.settings.inputs import out_input
from cnnlens.settings.option import fields_of, option, take_values
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace

LAYERS = ("conv1", "conv2", "conv3")
_DEEP = LAYERS[-1]
# at the usual 0.04 even untrained filters detect a red figure on white; from here on few do
MIN_IOU = 0.15
_SHOWN = 6  # units that are looked at closely, each the best detector of another concept
_FIRST = 4  # filters of the first layer, drawn beside their weights
_CLASSES = ("red square", "green circle", "blue triangle")
_GENERATED = ("red triangle", "green square", "blue circle")
_PHOTOS = 2
_EACH = 30  # pictures of each kind of figure, for the trees
_ANIMALS = 900
_STEPS = {"visualize": 96, "invert": 100, "fool": 60, "net2vec": 6, "upconv": 5,
          "generator": 40}  # fmt: skip
_WHOLE, _QUICK = (400, 4), (250, 2)  # images to dissect on, epochs of training
_NETWORKS = ("ordinary", "interpretable")
_AT = "relu4"  # where a convolution is inserted into them, and looked at


@dataclass
class Tour:
    """What the stations share: the demo's folder, and the dissections' summaries."""

    screen: Screen
    out: Path = out_input("cnnlens-demo", "Folder of data, models, results.")  # noqa: RUF009
    quick: bool = option(
        False,
        "In less than a minute: the trained network, without what is slow.",
        off="-",
        panel="What",
    )
    images: int | None = option(
        None, "Images to dissect on.", least=90, shown="400, quick 250", panel="What"
    )
    epochs: int | None = option(
        None, "Epochs of training.", least=1, shown="4, quick 2", panel="What"
    )
    seed: int = option(0, "Seed of everything random.", least=0, panel="Run")
    force: bool = False
    summaries: dict[str, Any] = field(default_factory=dict)  # network, layer, summary.json
    ahead: Beside | None = None  # who trains on animals already

    def __post_init__(self) -> None:
        take_values(self)
        usual = _QUICK if self.quick else _WHOLE
        self.size = (self.images or usual[0], self.epochs or usual[1])
        self.data = self.out / "shapes"  # labelled
        self.kinds = self.out / "kinds"  # class folders, one per kind of figure
        self.animals = self.out / "animals"  # with parts
        self.epochs_kept = self.out / "trained-epochs"  # checkpoints of the training

    def run(
        self, command: str, name: str = "trained", model: str = "", page: bool = False, **asked: Any
    ) -> Method:
        """Carry a command out on a network, in its workspace; keywords as in `Investigation`."""
        study = Study(
            Workspace(self.out / name, self.force), model or str(self.out / f"{name}.pt"),
            run=RunSettings(seed=self.seed), voice=self.screen, force=self.force,
        )  # fmt: skip
        kind = methods()[command]
        method = kind(study, *build(kind, {"seed": self.seed, **asked}), page)
        carry_out(method, o.command_line())
        return method

    def run_all(self, *commands: tuple[str, dict[str, Any]]) -> None:
        """Carry commands out on the trained network, one after the other."""
        for command, asked in commands:
            self.run(command, **asked)

    def drawn(
        self, make: Callable[..., Path], folder: Path, mark: str, images: int, seed: int
    ) -> bool:
        """Draw a data set where there is none (`mark`: a file of it); say whether that was so."""
        if (folder / mark).exists() and not self.force:
            self.screen.note(f"{folder.name}: as an earlier run drew it (--force draws it anew)")
            return False
        with self.screen.counted(f"drawing {folder.name}") as progress:
            make(folder, images, 64, seed, progress, self.force)
        return True

    @property
    def photos(self) -> tuple[Path, ...]:
        """A few pictures of the set."""
        from cnnlens.data.open import open_data

        images = open_data(self.data)
        return tuple(images.root / name for name in images.paths[:_PHOTOS])

    @property
    def detectors(self) -> list[int]:
        """The best units of the last layer, one per concept."""
        from cnnlens.measure.dissected_units import one_per_concept
        from cnnlens.report.dissect_files import read_dissection

        layer = read_dissection(self.out / "trained" / "dissect" / _DEEP)
        return one_per_concept(layer.best())[:_SHOWN]


# ---- the stations, in the order of the page


def draw(tour: Tour) -> None:
    """Draw the labelled set."""
    from cnnlens.data.synthetic import make_shapes

    images = tour.size[0]
    if tour.drawn(make_shapes, tour.data, "index.csv", images, tour.seed + 1):
        tour.screen.note(f"shapes: {images} images in {tour.data}")


@one_thread()
def train(tour: Tour) -> None:
    """Make two networks that differ in nothing but their training."""
    from cnnlens.interpretable.demo_net import save_trained
    from cnnlens.progress import followed

    for name, epochs in (("untrained", 0), ("trained", tour.size[1])):
        path, kept = tour.out / f"{name}.pt", tour.epochs_kept if epochs else None
        if tour.force or not path.exists() or (kept and not kept.is_dir()):
            with tour.screen.progress() as bars:
                right = followed(save_trained(path, epochs, tour.seed, kept), bars.show)
            tour.screen.note(f"{name}: {right:.1%} of its answers are right")
        else:
            tour.screen.note(f"{name}: as an earlier run trained it (--force trains it anew)")


def dissect(tour: Tour) -> None:
    """Dissect both, and put the twin's figures beside the trained network's."""
    from cnnlens.files import write_json

    for name in ("untrained", "trained"):
        method = tour.run("dissect", name, page=True, data=tour.data, layer=LAYERS, min_iou=MIN_IOU)
        tour.summaries[name] = method.summaries
        write_page(tour.out / name, tour.screen)
    for layer in LAYERS:
        found, other = (tour.summaries[name][layer] for name in ("trained", "untrained"))
        figures = {k: other[k] for k in ("detectors", "unique_detectors", "mean_iou")}
        summary = {**found, "twin": {"name": "untrained twin", **figures}}
        write_json(tour.out / "trained" / "dissect" / layer / "summary.json", summary)


def _best(tour: Tour) -> str:
    return f"{_DEEP}:{','.join(map(str, tour.detectors))}"


@one_thread()
def look(tour: Tour) -> None:
    """Look closer at the trained network, method after method."""
    first, photos = f"{LAYERS[0]}:0-{_FIRST - 1}", tour.photos
    best, steps = _best(tour), _STEPS["visualize"] // (2 if tour.quick else 1)
    tour.run_all(
        # figures are small: one that a unit sees at one place says more than a map full of them
        ("visualize", {"filter": (best, first), "logit": _CLASSES, "steps": steps,
                       "target": "centre", "tv": 0.5}),
        ("deconv", {"filter": (best,), "data": tour.data}),
        ("cam", {"image": photos, "layer": _DEEP, "method": "gradcam", "top": 2}),
        ("fool", {"image": photos, "layer": (_DEEP,), "steps": _STEPS["fool"]}),
    )  # fmt: skip


@one_thread()
def search(tour: Tour) -> None:
    """Look on with what takes its time: combinations, inversion, a generator, trees."""
    from cnnlens.data.synthetic import make_kinds

    if tour.force or not tour.kinds.is_dir():
        make_kinds(tour.kinds, _EACH, seed=tour.seed + 2)
    photos, trees = tour.photos, {"data": tour.kinds, "layer": (_DEEP,), "bootstrap": 100}
    start, *later = (str(path) for path in sorted(tour.epochs_kept.glob("*.pt")))
    tour.run_all(
        ("evolve", {"model": start, "checkpoints": later, "filter": (_best(tour),),
                    "data": tour.kinds}),
        ("net2vec", {"data": tour.data, "layer": (_DEEP,), "epochs": _STEPS["net2vec"],
                     "filters": (1, 8)}),
        ("invert", {"image": photos, "layer": LAYERS, "data": tour.data,
                    "steps": _STEPS["invert"]}),
        ("invert", {"image": photos, "layer": (_DEEP,), "data": tour.data, "method": "upconv",
                    "epochs": _STEPS["upconv"], "width": 16}),
        # classes that were not drawn yet: a picture of the same name would replace the other
        ("visualize", {"logit": _GENERATED, "method": "generator", "data": tour.kinds,
                       "learn_steps": _STEPS["generator"], "learn_batch": 8,
                       # a blank picture excites no class, and small steps find no way out of it
                       "steps": 2 * _STEPS["generator"], "lr": 0.12}),
        ("cluster", {**trees, "only": "categories"}),
        ("cluster", {**trees, "only": "filters"}),
        ("label", {"data": tour.kinds, "layer": (_DEEP,)}),  # by the branches of that tree, too
        ("ablate", {"data": tour.kinds, "filter": (_DEEP,), "top_k": (1, 2, 5), "random": 10}),
        # of these names, of what dissection says, and of units that are known
        ("exam", {"layer": (_DEEP,), "planted": 20}),
        # a picture that the trees have not seen goes down the filters of its kind
        ("explain", {"image": photos[:1], "data": tour.kinds, "layer": _DEEP}),
    )  # fmt: skip


@one_thread()
def finetune(tour: Tour) -> None:
    """Train one network on animals, then on from it: with ICNN, and the same way without."""
    from cnnlens.data.animals import make_animals

    tour.drawn(make_animals, tour.animals, "images.txt", _ANIMALS, tour.seed)
    _finetune(tour, "animals", "zoo:animal_net", method="none", epochs=10, lr=3e-3, trunk=1.0)
    start, further = str(tour.out / "animals.pt"), {"layer": (_AT,), "insert": True, "epochs": 5}
    for name, method in zip(_NETWORKS, ("none", "icnn"), strict=True):
        _finetune(tour, name, start, method=method, **further)


def _finetune(tour: Tour, name: str, model: str, **asked: Any) -> None:
    out = tour.out / f"{name}.pt"
    if out.with_suffix(".json").exists() and not tour.force:  # written when it was done
        tour.screen.note(f"{name}: as an earlier run trained it (--force trains it anew)")
        return
    tour.run("finetune", _NETWORKS[0], model=model, data=tour.animals, out=out, **asked)


@one_thread()
def stability(tour: Tour) -> None:
    """Measure whether the units of both follow the animals' parts."""
    data, others = tour.animals, tour.animals / "negatives"
    for name in _NETWORKS:
        tour.run("stability", name, page=True, data=data, negatives=others, layer=(_AT,), top=6)
        write_page(tour.out / name, tour.screen)


def train_and_measure(out: Path, seed: int, force: bool) -> None:
    """Do both in another process, which says nothing."""
    tour = Tour(Screen(quiet=True), out, seed=seed, force=force)
    finetune(tour)
    stability(tour)


def animals(tour: Tour) -> None:
    """Train on animals and measure, unless another process has done it; say how good they are."""
    from cnnlens.files import read_json

    if tour.ahead is not None and tour.ahead.runs:
        tour.screen.note("waiting for the networks that learn animals beside")
    if tour.ahead is None or not tour.ahead.succeeds():
        finetune(tour)
        stability(tour)
    for name in ("animals", *_NETWORKS):
        right = read_json(tour.out / f"{name}.json")["accuracy"]["after"]
        tour.screen.note(f"{name}: {right:.1%} of its answers are right")


def compare(tour: Tour) -> None:
    """Put both side by side on the demo's page."""
    from cnnlens.report.side_by_side import FOLDER

    first, other = _NETWORKS
    tour.run("compare", first, others=(tour.out / other,), out=tour.out / "trained" / FOLDER, top=6)


QUICK, WHOLE = (draw, train, dissect, look), (search, animals, compare)


def _ahead(tour: Tour) -> AbstractContextManager[Beside | None]:
    """Begin with the animals at once, where they are to be learned and a core is left for it."""
    learned = (tour.out / f"{_NETWORKS[-1]}.json").exists() and not tour.force
    if tour.quick or learned or not has_room():
        return nullcontext()
    return Beside(train_and_measure, tour.out, tour.seed, tour.force)


@o.with_fields(*o.common("json", "quiet", "force"), *fields_of(Tour))
def demo(screen: Screen, **asked: Any) -> None:
    """Show all of it on a synthetic set.

    Draws the set, trains a small CNN on it, dissects it beside its untrained twin, and looks
    closer at its best units, its classes and two pictures; ends with an ordinary and an
    interpretable network side by side. No download; it takes two to five minutes on two
    cores, with --quick, which leaves the slow ones out, less than one.
    """
    from cnnlens.measure.dissection import beside

    tour = Tour(screen, **asked)
    with _ahead(tour) as tour.ahead:
        for station in QUICK if tour.quick else QUICK + WHOLE:
            station(tour)
    page = write_page(tour.out / "trained", tour.screen)
    screen.document({"page": str(page), **tour.summaries})
    table, title = beside(tour.summaries), f"units whose best IoU reaches {MIN_IOU}"
    screen.table(*table, title=title)
    if tour.quick:
        left = (
            "combinations of units, their course over the training, inversion, a generator, trees, "
            "names from classes, their exam, what is lost without units, interpretable networks"
        )
        screen.note(f"left out: {left}; the same command without --quick adds them")
    screen.say(f"page: {page}")
