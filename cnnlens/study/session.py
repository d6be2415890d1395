"""A study: everything that one run opens, each thing once, in any order, nothing written before
`commit`.

    study = Study(Workspace(path), "model.pt")
    images = study.images("photos", ("images",))   # raises before the model is opened
    study.commit()                                  # from here on the workspace knows them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.given import GivenImages, given_images, spaced_images
from cnnlens.data.given_ranges import KnownData, with_ranges
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files.ledger import Ledger, names_in_use
from cnnlens.files.workspace import read_document
from cnnlens.settings import DataSettings
from cnnlens.study.stores import Stores

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet
    from cnnlens.data.given import GivenImage, ImageOfSet
    from cnnlens.distributed import Share
    from cnnlens.model.addresses import Filters
    from cnnlens.model.layer import Layer

ANY = ("images", "classes", "broden", "parts")  # kinds of data


@dataclass
class Study(Stores):
    """What one run works on."""

    _layers: list[Layer] = field(default_factory=list)
    _ledgers: list[Ledger] = field(default_factory=list)
    _images: list[tuple[ImageSet, bool, bool]] = field(default_factory=list)

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

    # ---- images

    def images(
        self,
        data: Path | str | ImageSet | None,
        kinds: tuple[str, ...] = ANY,
        default: bool = True,
        remember: bool = True,
    ) -> ImageSet:
        """Open the named data, or the workspace's last one of a fitting kind.

        Parameters
        ----------
        data : path or ImageSet or None
            As named.
        kinds : tuple of str
            Those that serve, the one that is wanted first.
        default : bool
            Whether it becomes the default of later commands.
        remember : bool
            Whether the workspace is to know it at all.

        Raises
        ------
        UsageError
            When there is none, or it is of another kind.
        """
        from cnnlens.data.open import check_kind

        images = self._opened(data, kinds)
        check_kind(images, kinds)
        self._say(images)
        if remember:
            named = data is not None or self.reading != DataSettings()
            self._images.append((images, named, default))
            self.take_natural_size(images)
        return images

    def negatives(self, data: Path | str | ImageSet | None) -> ImageSet | None:
        """Open images of no category where some are named; the workspace does not know them."""
        from cnnlens.data.open import open_data

        if isinstance(data, (str, Path)):  # what split the data is read in is not theirs
            data = open_data(data, bounds=self.reading.bounds)
            self._say(data)
        return data

    def _opened(self, data: Path | str | ImageSet | None, kinds: tuple[str, ...]) -> ImageSet:
        from cnnlens.data.open import in_split, open_data, wanted

        split, bounds = self.reading.split, self.reading.bounds
        if isinstance(data, (str, Path)):
            known = self.workspace.called(str(data))
            return open_data(data, split, bounds) if known is None else self.remembered(known)
        if data is not None:
            images = in_split(data, split)
            self.workspace.keep_in_memory(images)
            return images
        entry = self.workspace.data_entry(kinds)
        if entry is not None:
            return self.remembered({**entry, "split": split or entry.get("split")})
        _ = self.model  # who has neither hears of the model first
        raise UsageError(
            f"no data given, and the workspace {self.workspace.path} knows no {wanted(kinds)} data",
            "name a folder with -d DIR",
        )

    def remembered(self, entry: Mapping[str, Any]) -> ImageSet:
        """Open data of the workspace, by its entry there, as it was read before."""
        from cnnlens.data.open import open_data

        if (known := self.workspace.in_memory(entry)) is not None:
            return known
        bounds = self.reading.bounds or entry.get("range", {}).get("all")
        return open_data(entry["path"], entry.get("split"), bounds and (bounds[0], bounds[1]))

    def _say(self, images: ImageSet) -> None:
        """Say what was passed over or assumed when images were opened."""
        if images.notes:
            self.voice.note(f"{images.name}: {'; '.join(images.notes)}")

    def _say_channels(self, images: ImageSet) -> None:
        """Say that colours are repeated where a network takes more channels than there are."""
        channels = self.model.preprocess.channels
        if channels in (1, 3):
            return
        takes, again = f"the network takes {channels} channels, and", "they are repeated"
        if images.shape(self.model.preprocess)[0] != channels:
            self.voice.note(f"{takes} {images.name} has colours alone: {again}")
        elif lacking := images.lacking(channels):
            self.voice.note(f"{takes} {lacking} have colours alone: {again}")

    def given(
        self,
        paths: Sequence[Path],
        ledgers: Sequence[Ledger] = (),
        taken: Mapping[str, str] | None = None,
    ) -> GivenImages:
        """List images that were named one by one; names agree with those in `ledgers`, or `taken`.

        Deep ones are taken as those of the workspace's data that they are in, or as its last.
        """
        names = names_in_use(ledgers) if taken is None else taken
        images = given_images([Path(p) for p in paths], names)
        data = KnownData.of_entries(self.workspace.document["data"])
        images, notes = with_ranges(images, self.reading.bounds, data)
        if notes:
            self.voice.note("; ".join(notes))
        return GivenImages(images)

    def examples(
        self, given: Sequence[GivenImage], most: int = 24
    ) -> Sequence[GivenImage | ImageOfSet]:
        """Choose evenly spaced images of the workspace's data, where it is there and holds two;
        else of the given.
        """
        try:
            images = self.images(None, remember=False)
        except CnnlensError:  # there is none, or it was moved away
            return given[:most]
        return spaced_images(images, most) if len(images.paths) > 1 else given[:most]

    def photos(self) -> ImageSet | None:
        """Open what of the workspace's data was used last and is still there; None without any."""
        for known in reversed(self.workspace.document["data"]):
            with suppress(CnnlensError):
                if (found := self.remembered(known)).paths:
                    return found
        return None

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
