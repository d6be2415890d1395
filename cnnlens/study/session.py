"""A study: everything that one run opens, each thing once, in any order, nothing written before
`commit`.

    study = Study(Workspace(path), "model.pt")
    images = study.images("photos", ("images",))   # raises before the model is opened
    study.commit()                                  # from here on the workspace knows them
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files.ledger import Ledger
from cnnlens.files.workspace import read_document
from cnnlens.study.stores import Stores

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet
    from cnnlens.distributed import Share
    from cnnlens.model.addresses import Filters
    from cnnlens.model.layer import Layer


@dataclass
class Study(Stores):
    """What one run works on."""

    _layers: list[Layer] = field(default_factory=list)
    _ledgers: list[Ledger] = field(default_factory=list)

    # ---- what its classes are called

    def name_classes(self, images: ImageSet | None = None) -> None:
        """Call the network's outputs after class folders, where their names are not known.

        Parameters
        ----------
        images : ImageSet, optional
            Data that is held against the classes; left out: what the workspace knows, as far as
            its order is borne out.

        Raises
        ------
        UsageError
            When only an order says which output is which class of `images`, and they do not bear
            it out.
        """
        from cnnlens.measure.assumed import named_after

        model, order, must = self.model, self._order, images is not None
        if order is None and model.classes and not model.has_assumed_classes:
            return
        for data in self._with_categories() if images is None else (images,):
            size, tell = self.run.batch_size, self.voice.note
            if (found := named_after(model, data, order, must, size, tell)) is not None:
                self.model = found
                return
        if order is not None:
            raise UsageError(
                f"--classes {order}: no data with as many class folders as the network has outputs",
                "name a folder with -d DIR, or a file of names",
            )

    def read_classes(self, images: ImageSet) -> dict[str, str]:
        """Do as `name_classes`; of folders that are called otherwise, say how they are read.

        Returns
        -------
        dict
            What a result records of it: ``classes_read``, or nothing where their names say it.
        """
        from cnnlens.measure.assumed import foreign_names

        self.name_classes(images)
        if said := foreign_names(self.model, images):
            self.voice.note(said)
        return {"classes_read": said} if said else {}

    def _with_categories(self) -> Iterator[ImageSet]:
        """Data with categories that this run or the workspace knows, the latest first."""
        for images, *_ in reversed(self._images):
            yield images
        for entry in reversed(self.workspace.document["data"]):
            if entry["kind"] in ("classes", "parts"):
                with suppress(CnnlensError):  # it was moved away
                    yield self.remembered(entry)

    # ---- layers and units

    def layers(self, names: Sequence[str] = (), vectors: bool = False) -> list[Layer]:
        """Resolve the named layers, or the usual ones; each place once.

        Usual is the workspace's last one, else those that fine-tuning was to make mean something,
        else `last`.

        With `vectors`, fully connected layers may be named too. A place that the workspace knows
        keeps the name that was first typed.
        """
        found: dict[object, Layer] = {}
        for name in names or self._usual():
            layer = self.addresses.resolve(name, vectors)
            found.setdefault(layer.place, self._used(layer))
        return list(found.values())

    def layer(self, name: str | None = None) -> Layer:
        """Resolve one layer; not named, the last of the usual ones."""
        (found,) = self.layers([name or self._usual()[-1]])
        return found

    def _usual(self) -> list[str]:
        from cnnlens.model.convolutions import find_convolutions

        if self.workspace.knows(self.model) and (last := self.workspace.last_layer):
            return [last]
        made = [path for path in self.model.interpretable if path in self.addresses]
        # convolutions are looked at as always, behind their norm and activation
        aliases = {c.path: c.alias for c in find_convolutions(self.model)} if made else {}
        return [aliases.get(path, path) for path in made] or ["last"]

    def filters(self, texts: Sequence[str], vectors: bool = False) -> list[Filters]:
        """Resolve addresses of units, in the order typed (see `addresses.parse_filters`)."""
        from cnnlens.model.addresses import parse_filters

        found = parse_filters(texts, self.addresses, vectors) if texts else []
        return [one._replace(layer=self._used(one.layer)) for one in found]

    def concepts(self, texts: Sequence[str], vectors: bool = False) -> list[tuple[Layer, str]]:
        """Find those of some addresses that name concepts, and the layers whose they are."""
        from cnnlens.model.addresses import concept_in

        named = filter(None, map(concept_in, texts))
        return [(self._used(self.addresses.resolve(layer, vectors)), name) for layer, name in named]

    def _used(self, layer: Layer) -> Layer:
        self._layers.append(layer)
        return self.workspace.first_named(layer) if self.workspace.knows(self.model) else layer

    # ---- what results depend on, and where they go

    def key(
        self, layer: Layer | None = None, images: ImageSet | None = None, **more: Any
    ) -> dict[str, Any]:
        """Say everything a result depends on: equal keys, equal results.

        The network, how it takes pixels, the place, the images with everything that labels them,
        and `more`: settings, marks of images, other results.
        """
        preprocess = self.model.preprocess.key
        key: dict[str, Any] = {"model": self.model.fingerprint, "preprocess": preprocess}
        key |= self.model.numerics
        if layer is not None:
            key["place"] = layer.place.key
        if images is not None:
            key["data"] = images.fingerprint
            key["labels"] = images.labels_fingerprint
            key["preprocess"] = {**preprocess, "squash": images.aligned}
        return {**key, **more}

    @property
    def head(self) -> dict[str, Any]:
        """What results of class scores depend on besides: the output that was chosen."""
        return {"head": self.model.head} if self.model.head else {}

    def folder(self, command: str, layer: Layer | None = None) -> Path:
        """Where a command's results go, on a layer or on none."""
        path = self.workspace.path / command
        return path if layer is None else path / layer.folder

    def ledger(
        self, command: str, layer: Layer | None = None, file: str = "", listed: str = "pictures"
    ) -> Ledger:
        """Open the ledger of a command's results."""
        path = self.folder(command, layer) / (file or f"{command}.json")
        self._ledgers.append(Ledger(path, listed, self.force))
        return self._ledgers[-1]

    @contextmanager
    def committed(self) -> Iterator[None]:
        """Let the workspace know what this run works on; of several processes, the first one does.

        Nobody gives it another model while the block runs.

        Raises
        ------
        CnnlensError
            When it holds results of another model, and there is no `force`, or another process
            works in it with another model.
        """
        with ExitStack() as stack:
            self._commit(stack)
            yield

    def commit(self) -> None:
        """Do as `committed`, for an instant."""
        with self.committed():
            pass

    def _commit(self, stack: ExitStack) -> None:
        if self._order and not self.model.classes_source.startswith(f"--classes {self._order}"):
            self.name_classes()
        self.say_unsteady()
        for images, _, _ in self._images:
            self._say_channels(images)
            _ = images.fingerprint  # of what is there now: what changes from here on is seen later
        self.agree(self.share, *(images for images, _, _ in self._images))
        if self.share.leads:
            with self.workspace.editing() as workspace:
                stack.enter_context(workspace.used_for(self.model, self.options))
                workspace.use_model(self.model, self.options, self.force)
                for images, named, default in self._images:
                    workspace.use_data(images, named, default)
                for layer in self._layers:
                    workspace.use_layer(layer)
        for _ in self.share.wait():
            pass
        if not self.share.leads:
            self.workspace.document = read_document(self.workspace.path)
        for ledger in self._ledgers:
            ledger.forget_cleared()

    def agree(self, share: Share, *data: ImageSet) -> None:
        """See that all processes of a run have the same network and images; CnnlensError else."""
        if share.joined:
            images = [(str(one.root), self.key(None, one)) for one in data]
            share.agree([(self.model.spec, self.key()), *images])

    def record(self, command: str, folder: str) -> None:
        """Let the workspace know that a command was carried out, and where its results are."""
        with self.workspace.editing() as workspace:
            workspace.check_mine()
            workspace.add_command(command, folder)
