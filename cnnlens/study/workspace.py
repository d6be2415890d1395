"""The folder of one investigation: which model, which data, and where every result goes."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.paths import is_data
from cnnlens.data.signed import hidden
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files import LostError, free_name, make_folder
from cnnlens.files.locks import in_use
from cnnlens.files.workspace import empty_document, locked, read_document, write_document
from cnnlens.settings.place import portable
from cnnlens.study.origins import origins

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.layers import Layer
    from cnnlens.model.model import Model

VARIABLE = "CNNLENS_WORKSPACE"
DEFAULT = "cnnlens-out"

# everything commands write: what --force may clear when another model takes the workspace
RESULTS = (
    "activations", "dissect", "stability", "units", "net2vec", "label", "exam", "ablate", "images",
    "visualize", "deconv", "evolve", "invert", "cam", "explain", "fool", "outliers", "style",
    "cluster", "report_files", "report.html",
)  # fmt: skip

# of `open_model`'s arguments: leave to run code; names, which are kept themselves
_NOT_KEPT = ("allow_pickle", "classes")


class Workspace:
    """One investigation.

    Parameters
    ----------
    path : pathlib.Path or None
        The folder; None: ``$CNNLENS_WORKSPACE``, else ``./cnnlens-out``. It need not exist yet.
    force : bool
        Begin anew where ``workspace.json`` is damaged; the next model to be used then clears the
        results, where they are of another one.

    Raises
    ------
    CnnlensError
        When ``workspace.json`` is damaged or cannot be read, or the path is a file.
    """

    def __init__(self, path: Path | None = None, force: bool = False) -> None:
        self.path = Path(path or os.environ.get(VARIABLE) or DEFAULT)
        if self.path.exists() and not self.path.is_dir():
            raise CnnlensError(f"the workspace {self.path} is a file", "name a folder with -w DIR")
        self._is_lost = False
        self._mine: dict[str, Any] = {}  # what this process works with
        self._memory: dict[str, ImageSet] = {}
        try:
            self.document = read_document(self.path)
        except LostError:
            if not force:
                raise
            self.document, self._is_lost = empty_document(), True

    def reopened(self, force: bool = False) -> Workspace:
        """Return it as other processes may have left it meanwhile; data in memory stays."""
        anew = Workspace(self.path, force)
        anew._memory = self._memory
        return anew

    def moved(self, path: Path) -> Workspace:
        """Go on in another folder, with the data of this one."""
        if path == self.path:
            return self
        anew, known = Workspace(path), self.document["data"]
        anew._memory = self._memory
        if known:
            with anew.editing() as other:
                other.document["data"] = known
        return anew

    @contextmanager
    def editing(self) -> Iterator[Workspace]:
        """Change ``workspace.json``: it is read anew, changed in the block, and written whole.

        Meanwhile other processes wait, so that nobody erases what another one has recorded.
        """
        make_folder(self.path)
        with locked(self.path):
            if not self._is_lost:
                self.document = read_document(self.path)
            yield self
            write_document(self.path, self.document)
            self._is_lost = False

    def add_command(self, command: str, folder: str = "") -> None:
        """Note a command line that was carried out, less what signs its addresses, and the folder
        that its results are in.
        """
        for name, new in (("commands", hidden(command)), ("folders", folder)):
            known = self.document.setdefault(name, [])
            if new and new not in known:
                known.append(new)

    # ---- the model

    @property
    def model_options(self) -> dict[str, Any] | None:
        """How to open the model again: `open_model`'s arguments; None when there is none."""
        model = self.document.get("model")
        if not model:
            return None
        # leave to run code is given on the command line, not by a folder that came from elsewhere
        options = {k: v for k, v in model.get("options", {}).items() if k != "allow_pickle"}
        return {"spec": model["spec"], **options}

    def use_model(self, model: Model, options: dict[str, Any], force: bool = False) -> None:
        """Make `model` this workspace's model.

        Parameters
        ----------
        model : Model
            As opened.
        options : dict
            The arguments of `open_model` that opened it, without spec and device.
        force : bool
            Clear the results of another model instead of refusing.

        Raises
        ------
        CnnlensError
            When the workspace holds results of another model.
        """
        entry, known = _entry_of(model, options), self.document["model"]
        if not known:
            self._adopt(entry, force)
        elif not _is_same(known, entry):
            self._replace(known, entry, force)
        self.document["model"] = self._mine = entry

    @contextmanager
    def used_for(self, model: Model, options: dict[str, Any]) -> Iterator[None]:
        """Keep the model that is this workspace's from being replaced by other processes.

        To be begun while it is edited, before the model is changed: results of a process at work
        may still be to come.

        Raises
        ------
        CnnlensError
            When another process works here, with another model.
        """
        entry, known = _entry_of(model, options), self.document["model"]
        alone = not known or not _is_same(known, entry)
        with in_use(self.path / ".model.lock", alone) as is_mine:
            if not is_mine:
                other = f", with {_other(known, entry)}" if known else ""
                raise CnnlensError(
                    f"another process works in the workspace {self.path}{other}",
                    "use another workspace with -w DIR, or wait for it",
                )
            yield

    def check_mine(self) -> None:
        """See that the model is still the one that this process works with.

        Raises
        ------
        CnnlensError
            When another process has replaced it, where `used_for` finds no locks to keep it.
        """
        known = self.document["model"]
        if known and self._mine and not _is_same(known, self._mine):
            raise CnnlensError(
                f"the workspace {self.path} was given to {_other(known, self._mine)} meanwhile: "
                "its results are of both",
                "redo both with --force, each in a workspace of its own (-w DIR)",
            )

    def known_as(self, model: Model) -> Model:
        """Let a network of a user's own code go by the fingerprint that an earlier version of
        cnnlens gave it here, as long as its code stays what it is.
        """
        known = self.document["model"] or {}
        own, before = known.get("fingerprint"), model.fingerprint_before
        if own in (None, model.fingerprint) or before is None:
            return model
        if model.fingerprint != known["code"] if "code" in known else before() != own:
            return model
        return replace(model, fingerprint=own, code=model.fingerprint)

    def knows(self, model: Model) -> bool:
        """Whether `model` is the one that this workspace is about."""
        known = self.document["model"]
        return bool(known) and known["fingerprint"] == model.fingerprint

    def recalled(self, model: Model) -> Model:
        """Give a network, opened without names that were said anew, those that are known here.

        Names hold for all commands of a workspace, which records them with their source.
        """
        entry = self.document["model"] or {}
        names, source = entry.get("classes"), str(entry.get("classes_source") or "")
        if model.classes_source == "given" or not isinstance(names, list) or not self.knows(model):
            return model
        said = source.startswith("--classes") or source == "given"
        if said or (source and (model.classes is None or model.has_assumed_classes)):
            return model.called([str(name) for name in names], source)
        return model

    def _replace(self, known: dict[str, Any], entry: dict[str, Any], force: bool) -> None:
        if self.has_results() and not force:
            way = "use another workspace with -w DIR, or clear them with --force"
            if entry["options"].get("in_memory"):
                way = 'Investigation(net, "other-folder") keeps them; force=True clears them'
            what = _other(known, entry)
            raise CnnlensError(f"the workspace {self.path} holds results of {what}", way)
        self.clear()

    def _adopt(self, entry: dict[str, Any], force: bool) -> None:
        """Take a model where none is known: what is there may still be results of another one."""
        there = [self.path / name for name in self._folders() if (self.path / name).is_dir()]
        if not there or origins(there) <= {entry["fingerprint"]}:
            return
        if not force:
            raise CnnlensError(
                f"the workspace {self.path} holds results of another model, which it has forgotten",
                "use another workspace with -w DIR, or clear them with --force",
            )
        self.clear()

    def has_results(self) -> bool:
        """Whether commands have written anything that depends on the model."""
        return any((self.path / name).exists() for name in self._folders())

    def _folders(self) -> list[str]:
        """Everything that commands write, also those of other packages' methods."""
        known = self.document.get("folders", [])
        mine = [n for n in known if isinstance(n, str) and re.fullmatch(r"\w[\w-]*", n)]
        return list(dict.fromkeys([*RESULTS, *mine]))

    def clear(self) -> None:
        """Remove all results, and what is remembered of layers and command lines."""
        for name in self._folders():
            target = self.path / name
            is_folder = target.is_dir() and not target.is_symlink()
            shutil.rmtree(target) if is_folder else target.unlink(missing_ok=True)
        self.document.update(layers=[], commands=[], folders=[])

    # ---- the data

    def use_data(self, images: ImageSet, named: bool = True, default: bool = True) -> None:
        """Remember `images`; where they were named, they become the default of their kind.

        With `default` False they are the last choice for other commands, unless known before.
        """
        mine = self._entry(images)
        if mine and is_entry_of(mine, images) and not (named and default):
            return
        known = [entry for entry in self.document["data"] if entry is not mine]
        taken = [entry["name"] for entry in known]
        entry = {
            "path": images.place,
            "name": mine.get("name") or free_name(images.name, taken.__contains__),
            "kind": images.kind,
            "images": len(images.paths),
            "fingerprint": images.fingerprint,
        }
        if images.in_memory:
            entry["in_memory"] = True
        if images.split:
            entry["split"] = images.split
        if images.ranges:
            entry["range"] = images.ranges.as_dict()
        self.document["data"] = [*known, entry] if default else [entry, *known]

    def _entry(self, images: ImageSet) -> dict[str, Any]:
        """Find what is known of a data set, where it is now or where it was before it was moved."""
        known = self.document["data"]
        mine = (e for is_it in (is_entry_of, _is_moved) for e in known if is_it(e, images))
        return next(mine, {})

    def has_namesake(self, images: ImageSet) -> bool:
        """Whether other data of the same name have been used here."""
        mine, alike = self._entry(images), re.compile(rf"{re.escape(images.name)}(-\d+)?")
        return any(e is not mine and alike.fullmatch(e["name"]) for e in self.document["data"])

    def knows_data(self, images: ImageSet) -> bool:
        """Whether `images` have been used here."""
        return bool(self._entry(images))

    def data_entry(self, kinds: tuple[str, ...]) -> dict[str, Any] | None:
        """Return what is known of the last used data of one of these kinds, if there is some."""
        fitting = [e for e in self.document["data"] if e["kind"] in kinds]
        return fitting[-1] if fitting else None

    def stores(self, images: ImageSet) -> Path:
        """Folder of the activation stores of a data set in use, or of a part of one."""
        return self.path / "activations" / self._entry(images).get("name", images.name)

    def keep_in_memory(self, images: ImageSet) -> None:
        """Remember data that has no folder, for as long as this process lives."""
        if images.in_memory:
            self._memory[images.place] = images

    def in_memory(self, entry: Mapping[str, Any]) -> ImageSet | None:
        """Return data that was kept in memory, by its entry; None where it lies elsewhere.

        Raises
        ------
        UsageError
            When it was in memory of another process.
        """
        if not entry.get("in_memory"):
            return None
        if not self.holds(entry):
            raise UsageError(
                f"the images {entry['name']} were in memory of another process, which kept no file "
                "of them",
                "give them again, in Python, with data=; or name a folder with -d DIR",
            )
        return self._memory[entry["path"]]

    def holds(self, entry: Mapping[str, Any]) -> bool:
        """Whether data of an entry is in memory here."""
        return bool(entry.get("in_memory")) and entry["path"] in self._memory

    def called(self, name: str) -> dict[str, Any] | None:
        """Find what is known of data in memory by its name, where no folder is called so."""
        known = (e for e in self.document["data"] if e.get("in_memory") and e["path"] == name)
        return None if Path(name).exists() else next(known, None)

    # ---- the layers

    def first_named(self, layer: Layer) -> Layer:
        """Return a layer under the name that was first typed for its place."""
        for entry in self.document["layers"]:
            if entry["place"] == layer.place.key and not layer.is_vector:
                return replace(layer, name=entry["name"])
        return layer

    def use_layer(self, layer: Layer) -> None:
        """Remember a layer as the last used; a place that is known keeps the name first typed.

        Fully connected layers are not remembered: most commands look at maps.
        """
        if layer.is_vector:
            return
        place, known = layer.place.key, self.document["layers"]
        mine = [entry for entry in known if entry["place"] == place]
        mine = mine or [{"name": layer.name, "place": place, "alias": layer.alias}]
        self.document["layers"] = [entry for entry in known if entry["place"] != place] + mine

    @property
    def last_layer(self) -> str | None:
        """Name of the last used layer; None when there is none."""
        layers = self.document["layers"]
        return layers[-1]["name"] if layers else None


def _entry_of(model: Model, options: dict[str, Any]) -> dict[str, Any]:
    """Say of a model what a workspace keeps of it."""
    entry = {
        "spec": portable(model.spec),
        "arch": model.arch,
        "fingerprint": model.fingerprint,
        "preprocess": model.preprocess.key,
        "preprocess_source": model.preprocess.source,
        "classes": model.classes,
        "classes_source": model.classes_source,
        "options": {k: v for k, v in options.items() if v and k not in _NOT_KEPT},
    }
    if model.code:
        entry["code"] = model.code
    if model.unsteady is not None:
        entry["unsteady"] = model.unsteady
    if getattr(model, "lent_to", None) is not None:
        kept = {**options, "head": model.head}
        entry["options"] = {"in_memory": True, **{k: v for k, v in kept.items() if v}}
    return entry


def _is_same(known: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Whether results of the model that is known are results of the other one."""
    return all(known.get(k) == entry[k] for k in ("fingerprint", "preprocess"))


def _other(known: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """Say in what the model that is known is another one."""
    if known.get("fingerprint") == entry["fingerprint"]:
        return "another preprocessing"
    if known.get("spec") != entry["spec"]:
        return f"another model ({known.get('spec')})"
    if entry["options"].get("in_memory"):
        return f"{known['spec']} as it was: its weights, code or hooks have changed"
    return f"another model: {entry['spec']} has other code or weights since"


def is_entry_of(entry: Mapping[str, Any], images: ImageSet) -> bool:
    """Whether an entry of a workspace's data is just these images, read just so.

    The splits of a folder are data sets of their own; so are its files with another range.
    """
    same = entry["path"] == images.place and bool(entry.get("in_memory")) == images.in_memory
    return same and _is_read_alike(entry, images)


def _is_read_alike(entry: Mapping[str, Any], images: ImageSet) -> bool:
    known = entry.get("split"), entry.get("range", {}).get("all")
    return known == (images.split, images.ranges.as_dict().get("all"))


def _is_moved(entry: Mapping[str, Any], images: ImageSet) -> bool:
    """Whether these are an entry's images, which are no longer where they were."""
    about = ("kind", images.kind), ("images", len(images.paths))
    return (
        all(entry.get(name) == value for name, value in about)
        and _is_read_alike(entry, images)
        and entry.get("fingerprint") == images.fingerprint
        and not (entry.get("in_memory") or images.in_memory or is_data(entry["path"]))
    )


def needs_model(workspace: Workspace) -> UsageError:
    """Say that a model is needed, and both ways to give one."""
    return UsageError(
        f"no model given, and the workspace {workspace.path} knows none",
        "name one (cnnlens COMMAND model.pt), or a workspace that has one with -w DIR",
    )
