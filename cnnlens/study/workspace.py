"""The folder of one investigation: which model, which data, and where every result goes."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.signed import hidden
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files import LostError, make_folder
from cnnlens.files.locks import in_use
from cnnlens.files.workspace import empty_document, locked, read_document, write_document
from cnnlens.study.origins import origins
from cnnlens.study.workspace_data import WorkspaceData
from cnnlens.study.workspace_model import entry_of, is_same, other_model

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.layer import Layer
    from cnnlens.model.model import Model

VARIABLE = "CNNLENS_WORKSPACE"
DEFAULT = "cnnlens-out"

# everything commands write: what --force may clear when another model takes the workspace
RESULTS = (
    "activations", "dissect", "stability", "units", "net2vec", "label", "exam", "ablate", "images",
    "visualize", "deconv", "evolve", "invert", "cam", "explain", "fool", "outliers", "style",
    "cluster", "report_files", "report.html",
)  # fmt: skip


class Workspace(WorkspaceData):
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
        entry, known = entry_of(model, options), self.document["model"]
        if not known:
            self._adopt(entry, force)
        elif not is_same(known, entry):
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
        entry, known = entry_of(model, options), self.document["model"]
        alone = not known or not is_same(known, entry)
        with in_use(self.path / ".model.lock", alone) as is_mine:
            if not is_mine:
                other = f", with {other_model(known, entry)}" if known else ""
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
        if known and self._mine and not is_same(known, self._mine):
            other = other_model(known, self._mine)
            raise CnnlensError(
                f"the workspace {self.path} was given to {other} meanwhile: it has results of both",
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
            what = other_model(known, entry)
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


def needs_model(workspace: Workspace) -> UsageError:
    """Say that a model is needed, and both ways to give one."""
    return UsageError(
        f"no model given, and the workspace {workspace.path} knows none",
        "name one (cnnlens COMMAND model.pt), or a workspace that has one with -w DIR",
    )
