"""``cnnlens explain``: an image's path down its category's tree of filters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.copies import Copies
from cnnlens.data.given import GivenImage
from cnnlens.data.paths import real_path
from cnnlens.data.picture_names import content_in, fitting, place_in
from cnnlens.errors import CnnlensError, counted
from cnnlens.files import free_name, mark
from cnnlens.files.ledger import MADE_FROM, RAW, Item, Ledger, pictures_of
from cnnlens.methods.method import Inputs, Method, Results, page_part
from cnnlens.progress import Step
from cnnlens.settings.cluster import ExplainSettings
from cnnlens.settings.inputs import data_input, images_input, layer_input, raw_input
from cnnlens.settings.option import option

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.activations.extract import StoredLayer
    from cnnlens.activations.store import Store
    from cnnlens.cluster.explanation import Explanation
    from cnnlens.report.shown import PictureResults

# raised where classes are named or judged otherwise: earlier ones are redone
_VERDICTS, _OF_SIDES = 2, 3  # of a single output, which earlier explanations leave out


@dataclass(frozen=True)
class ExplainInputs(Inputs):
    """Which images, whose filters."""

    image: tuple[Path, ...] = images_input()
    data: Path | None = data_input()
    layer: str | None = layer_input(
        "Whose filters. Default: the workspace's last one, else the last that finetune made mean "
        "something, else last."
    )
    category: str | None = option(
        None,
        "The category whose tree to go down; where it is not the predicted one, its name joins "
        "the picture's, so that both stay.",
        name="class",
        metavar="CATEGORY",
        shown="the predicted class's",
        panel="What",
    )
    raw: bool = raw_input()


class Explain(Method):
    """Walk an image down its category's filters.

    At every split the image goes to the nearer side; shown are the critical filter, its activation
    among the category's images, and the images of the data that excite it most. Each image gets a
    picture and a JSON of its name; of a category named with --class that is not the predicted one,
    NAME-CATEGORY.
    """

    name, panel, several = "explain", "Look at images", "images"
    asks, settings_types = ExplainInputs, (ExplainSettings,)
    sections = (("explain", page_part("sections.explanations")),)
    probes = (("", "cluster.predicted.probe"),)
    examples = (
        "cnnlens explain -i dog.jpg",
        "cnnlens explain model.pt -d photos/ -l layer4 -i dog.jpg --class cat",
    )

    def resolve(self) -> None:
        """Find images, categories, the layer, and what predicts classes."""
        from cnnlens.cluster.predicted import predictor

        study, asked = self.study, self.asked
        self.folder = study.folder("explain")
        # what earlier pictures show, and the category named against the predicted
        stems = (file.stem for file in sorted(self.folder.glob("*.json")))
        self.shown = pictures_of(map(self._ledger, stems))
        predicted = {name: mark for name, (mark, named) in self.shown.items() if named is None}
        self.given = self.study.given(asked.image, taken=predicted)
        self.images = study.images(asked.data, ("classes", "parts"))
        self.layer = study.layer(asked.layer)
        study.name_classes(None if asked.category else self.images)
        names = sorted(set(self.images.image_categories or ()))
        look = predictor(study.model, names, asked.category)
        self.is_two_sided = look is not None and look.is_two_sided

    # ---- what is there

    def _ledger(self, name: str) -> Ledger:
        return Ledger(self.folder / f"{name}.json", listed="", force=self.study.force)

    def _document(self, name: str) -> dict[str, Any]:
        """What an earlier run found; {} where there is no such file."""
        return self._ledger(name).entries.get(f"{name}.json", {})

    def _name(self, image: GivenImage, category: str | None) -> str:
        """Name the picture of an image, down a category's tree or the predicted one's."""
        from cnnlens.report.contents import file_names

        more = "" if category is None else f"-{file_names([category])[category]}"

        def is_taken(name: str) -> bool:
            mark, named = self.shown.get(name, (image.mark, category))
            same = image.place == place_in(mark) or content_in(image.mark) == content_in(mark)
            return not same or named != category

        return free_name(fitting(image.name + more), is_taken)

    @cached_property
    def stored(self) -> StoredLayer:
        """The layer's activations on the data."""
        return self.study.stored(self.images, self.layer)

    @cached_property
    def detects(self) -> dict[int, str]:
        """What the layer's units detect."""
        return self.detected(self.layer)

    @cached_property
    def optimized(self) -> dict[int, Path]:
        """The picture that excites a unit of the layer most, where `visualize` made one."""
        folder = self.study.workspace.path / "visualize" / self.layer.folder
        found = {file.stem: file for file in folder.glob("*.png") if file.stem.isdecimal()}
        return {int(unit): file for unit, file in found.items()}

    def _true(self, image: GivenImage) -> dict[str, str] | None:
        """Say what an image is: as the data says it, of a copy too, else as the folder is called
        that it lies in.
        """
        path, root = real_path(image.path), self.images.root
        if path.is_relative_to(root.resolve()):
            file = root / path.relative_to(root.resolve())
            if file in self._categories:
                return {"category": self._categories[file], "known_from": "the data"}
        said = {self._categories[file] for file in self._copies.of(path)}
        if len(said) == 1:  # of several the data does not know itself
            return {"category": said.pop(), "known_from": "its copy in the data"}
        name = path.parent.name
        known = name in set(self._categories.values())
        return {"category": name, "known_from": "its folder"} if known else None

    @cached_property
    def _categories(self) -> dict[Path, str]:
        """The category of every image of the data, by its file."""
        known = self.images.image_categories or ()
        return {self.images.file(place): name for place, name in enumerate(known)}

    @cached_property
    def _copies(self) -> Copies:
        return Copies(self._categories)

    @cached_property
    def _key(self) -> dict[str, Any]:
        """Everything that every explanation of this run depends on."""
        from cnnlens.model.ending import SIGMOID, SOFTMAX, link_mark

        return self.study.key(
            self.layer,
            self.images,
            **self.stored.key,
            settings=self.settings.as_dict(),
            classes=mark(self.study.model.classes),
            detects=mark(self.detects),
            optimized=mark({unit: _content(f) for unit, f in sorted(self.optimized.items())}),
            verdicts=_OF_SIDES if self.is_two_sided else _VERDICTS,
            **self.study.head,
            **link_mark(self.study.model, SIGMOID, SOFTMAX),
        )

    def _item(self, image: GivenImage, category: str | None) -> Item:
        name = self._name(image, category)
        made_from = {**self._key, "category": category, "image": image.mark}
        made_from["true"] = self._true(image)
        return Item(f"{name}.json", made_from, (f"{name}.png",), name, raw=self.asked.raw)

    def _made(self, image: GivenImage) -> str | None:
        """Name of the picture that shows just this already; None where there is none."""
        for category in dict.fromkeys((None, self.asked.category)):
            item = self._item(image, category)
            wanted = (None, self._document(item.subject).get("category"), category)
            if self.asked.category in wanted and self._ledger(item.subject).is_made(item):
                return str(item.subject)
        return None

    # ---- what is made

    def plan(self) -> str:
        """Say how many images are explained, and which were before."""
        made = {image: self._made(image) for image in self.given.images}
        self.names = {image: name for image, name in made.items() if name is not None}
        for name in self.names.values():
            self.study.voice.note(f"{name}: explained before (--force redoes it)")
        images = counted(count := len(made) - len(self.names), "image")
        return f"{images}, down the filters of {self.layer.name}" if count else ""

    def work(self) -> Iterator[Step]:
        """Explain what was not explained before; each is kept as soon as it is drawn."""
        study, todo = self.study, [i for i in self.given.images if i not in self.names]
        read: list[tuple[GivenImage, np.ndarray]] = []
        for one in self.given.read(study.model.preprocess, todo):
            read.append(one)
            yield Step(len(read), len(todo), "images")
        if not read:
            return
        yield from study.voice.limits(self.stored.fill(study.run))
        with self.stored.open() as store:
            yield from self._explain(read, store)
        if self.failed and not self.names:
            raise self.failed.pop(0)

    def _explain(self, read: list[tuple[GivenImage, np.ndarray]], store: Store) -> Iterator[Step]:
        from cnnlens.cluster.explain import explain_steps
        from cnnlens.cluster.vectors import group

        def skip(number: int, error: CnnlensError) -> None:
            if len(read) > 1:
                self.study.voice.note(f"{read[number][0].shown}: {error.message}")
            self.failed.append(error)

        known = self.images.image_categories or ()
        groups = group([known[at] for at in store.positions])
        found = yield from explain_steps(
            self.study.model, self.layer, store, groups, [pixels for _, pixels in read],
            category=self.asked.category, rule=self.settings.rule, skip=skip,
        )  # fmt: skip
        for done, (number, one) in enumerate(found, 1):
            self._keep(*read[number], one, store)
            yield Step(done, len(read), "explanations", note=read[number][0].path.name)

    def _keep(
        self, image: GivenImage, pixels: np.ndarray, found: Explanation, store: Store
    ) -> None:
        """Draw an explanation; write its picture and its JSON."""
        from cnnlens.files import write_json
        from cnnlens.report.figures import rows_seen
        from cnnlens.report.figures.explained import save_explained

        item = self._item(image, None if found.of_predicted else found.category)
        name, true = item.subject, self._true(image)
        about = {
            **{"image": image.shown, "file": f"{name}.png", "layer": self.layer.name},
            **found.as_dict(store.images, self.detects),
            "true": true,
            "right": found.right(true["category"] if true else None),
        }
        seen = rows_seen(self.images, store.positions, self.study.model.preprocess)
        picture = self.folder / f"{name}.png"
        (self.folder / item.name).unlink(missing_ok=True)  # which says what an earlier one shows
        save_explained(picture, found, about, pixels, image.path.name, seen, self.optimized)
        about |= self._write_raw(item, pixels, found)
        write_json(self.folder / item.name, {**about, MADE_FROM: item.made_from})
        self.shown[name] = image.mark, item.made_from["category"]
        self.names[image] = name

    def _write_raw(self, item: Item, pixels: np.ndarray, found: Explanation) -> dict[str, Any]:
        """Write the arrays where they are asked for; those of an earlier picture go."""
        from cnnlens.files import write_npz
        from cnnlens.report.figures.attribution import as_rgb

        file = self.folder / item.arrays
        if not self.asked.raw:
            file.unlink(missing_ok=True)
            return {}
        shown = {"image": as_rgb(pixels).transpose(2, 0, 1).astype("float32") / 255}
        if found.prediction is not None:
            shown["heat"] = found.prediction.heat
        write_npz(file, **shown)
        return {RAW: item.arrays}

    # ---- what is shown

    def close(self) -> None:
        """List what was explained, by the names of the pictures."""
        self.study.voice.skipped(self.given.skipped)
        named = [self.names[image] for image in self.given.images if image in self.names]
        self.summaries = {name: self._document(name) for name in named}

    def show(self, results: Results) -> None:
        """Show each image's path."""
        from cnnlens.cluster.explanation import IMAGE_COLUMNS, image_row

        rows = [image_row(name, found) for name, found in self.summaries.items()]
        results.table(IMAGE_COLUMNS, rows)
        results.say(f"pictures: {self.folder}")

    def result(self) -> PictureResults:
        """Return the pictures, and what is known of each."""
        from cnnlens.report.shown import PictureResults

        images = enumerate(self.given.images)
        files = {place: f"{self.names[one]}.png" for place, one in images if one in self.names}
        return PictureResults(self.folder, list(self.summaries.values()), files)


def _content(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
