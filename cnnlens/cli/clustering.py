"""What the stations of ``cluster`` share: the store, the categories, and what was made before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.cli.extract import fill_stores
from cnnlens.cli.screen import Screen
from cnnlens.errors import CnnlensError
from cnnlens.settings import ClusterSettings, ExtractSettings, RunSettings
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    from cnnlens.activations.store import Store
    from cnnlens.cluster.vectors import Groups
    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.layers import Layer
    from cnnlens.model.model import Model

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Job:
    """One layer of one model on one data set, to be clustered."""

    screen: Screen
    space: Workspace
    model: Model
    images: ImageSet
    layer: Layer
    store: Store
    groups: Groups | None
    settings: ClusterSettings
    run: RunSettings
    force: bool

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.space.results("cluster", self.layer)

    def made_from(self, *names: str) -> dict[str, Any]:
        """Everything a station's results depend on: the store, and the settings of these names."""
        settings = self.settings.as_dict()
        return {**asdict(self.store.key), "settings": {name: settings[name] for name in names}}

    def needed_groups(self) -> Groups:
        """Return the categories; data without any is the user's to change."""
        if self.groups is None:
            raise CnnlensError(
                f"{self.images.root} has no categories",
                "put the images into one subfolder per category, or use --only embed",
            )
        return self.groups


@contextmanager
def opened_job(
    screen: Screen,
    space: Workspace,
    model: Model,
    images: ImageSet,
    layer: Layer,
    settings: ClusterSettings,
    run: RunSettings,
    force: bool,
) -> Iterator[Job]:
    """Open a layer's store, after making it where there is none; the model is not run otherwise."""
    from cnnlens.activations.extract import store_path
    from cnnlens.activations.store import Store
    from cnnlens.cluster.vectors import group
    from cnnlens.model.classes import gives_scores

    path = store_path(space.stores(images), layer)
    # one that is there serves without class scores too; a new one gets them for other commands
    logits = not path.exists() and gives_scores(model)
    fill_stores(
        screen, space, model, images, [layer], ExtractSettings(), run, logits=logits, force=False
    )
    with Store(path) as store:
        categories = store.categories
        groups = group(categories) if categories is not None else None
        yield Job(screen, space, model, images, layer, store, groups, settings, run, force)


def summary(job: Job) -> dict[str, Any]:
    """Read what earlier runs found on this layer; {} where nothing is there."""
    from cnnlens.files import read_json

    path = job.folder / SUMMARY
    if not path.exists():
        return {}
    try:
        found = read_json(path)
        if not isinstance(found, dict):
            raise CnnlensError(f"{path} is damaged: no summary", "redo it with --force")
    except CnnlensError:
        if not job.force:
            raise
        return {}
    return found


def once(
    job: Job, station: str, made_from: Mapping[str, Any], make: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Run a station, unless its results were made from just this before; return its summary.

    After it, the layer's ``summary.json`` lists what it found.
    """
    from cnnlens.files import write_json

    before = summary(job).get(station)
    if not job.force and isinstance(before, dict) and before.get("made_from") == made_from:
        files = before.get("files", [])
        if all((job.folder / file).is_file() for file in files):
            job.screen.note(f"{job.layer.name}: {station} done before (--force redoes it)")
            return before
    found = {**make(), "made_from": dict(made_from)}
    document = {"layer": job.layer.name, **summary(job), station: found}
    write_json(job.folder / SUMMARY, document)
    return found
