"""What methods share that make pictures: of every layer, or of none, a ledger and what is missing.

A subclass puts its parts together with `add`, draws what is `todo` in them, and says what stands
beside the pictures in a part's JSON (`summary`) and what of an entry stands in the table (`rows`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cnnlens.errors import counted
from cnnlens.files.ledger import Item, Ledger
from cnnlens.methods.method import Method, Results

if TYPE_CHECKING:
    from cnnlens.data.given import GivenImage
    from cnnlens.model.layer import Layer
    from cnnlens.report.shown import PictureResults
    from cnnlens.study.session import Study

_ROWS = 40  # of the table


@dataclass
class Part:
    """Pictures that stand in one folder: those of a layer, or all.

    Attributes
    ----------
    name : str
        The layer's; the method's where there is none.
    ledger : Ledger
        What is there.
    items, todo : list of Item
        What was asked for, and what of it is to be made.
    layer : Layer, optional
        Whose pictures they are.
    """

    name: str
    ledger: Ledger
    items: list[Item]
    todo: list[Item]
    layer: Layer | None = None

    @property
    def there(self) -> list[Item]:
        """What was asked for and is there, as it was asked for, in the order asked."""
        return self.ledger.there(self.items, self.todo)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Entries of what is there."""
        return [self.ledger.entries[item.name] for item in self.there]

    def file(self, item: Item, ending: str = ".png") -> Path:
        """Where an item's picture is, or (`ending`) what belongs to it."""
        return (self.ledger.folder / item.name).with_suffix(ending)


class Pictured(Method):
    """A method whose results are pictures.

    Attributes
    ----------
    noun : str
        What a picture is of, for people.
    columns : tuple of str
        Of the table.
    part_type : type
        What `add` makes.
    parts : list of Part
        In the order asked.
    of_images : sequence of GivenImage
        Where pictures are of images: those, in the order given.
    """

    noun: ClassVar[str] = "picture"
    columns: ClassVar[tuple[str, ...]] = ()
    part_type: ClassVar[type[Part]] = Part
    of_images: Sequence[GivenImage] = ()

    def __init__(
        self, study: Study, asked: Any = None, settings: Any = None, page: bool = True
    ) -> None:
        super().__init__(study, asked, settings, page)
        self.parts: list[Any] = []

    def add(
        self, ledger: Ledger, items: Sequence[Item], layer: Layer | None = None, name: str = ""
    ) -> Any:
        """Put a part together, of a layer or of another name; what of it is there is said."""
        name = layer.name if layer else name
        todo = self.missing(ledger, items, self.noun, name)
        part = self.part_type(name or self.name, ledger, list(items), todo, layer)
        self.parts.append(part)
        return part

    def image_of(self, item: Item) -> GivenImage | None:
        """Which of `of_images` an item's picture is of; None for none."""
        return None

    def to_make(self) -> str:
        """Say how much is to be made: "3 pictures of conv1, 1 picture of conv2", or nothing."""
        todo = [(len(part.todo), part) for part in self.parts if part.todo]
        return ", ".join(
            counted(count, self.noun) + (f" of {part.name}" if part.name != self.name else "")
            for count, part in todo
        )

    def summary(self, part: Any) -> dict[str, Any]:
        """Say what a part's JSON holds before its pictures."""
        raise NotImplementedError

    def rows(self, entry: dict[str, Any]) -> Iterable[Sequence[object]]:
        """Give an entry's rows of the table."""
        raise NotImplementedError

    def shows(self, entry: Mapping[str, Any]) -> str:
        """Say what an entry's picture shows, whatever that is called now: one that is made takes
        the place of an earlier one of the same.
        """
        return str(entry["file"])

    def close(self) -> None:
        """List the pictures of every part."""
        for part in self.parts:
            part.ledger.drop_renamed(part.items, self.shows)
            if part.ledger.entries:
                self.summaries[part.name] = part.ledger.close(self.summary(part))

    def show(self, results: Results) -> None:
        """Show the pictures that were asked for, and where they are."""
        rows = [row for part in self.parts for entry in part.entries for row in self.rows(entry)]
        results.table(self.columns, rows[:_ROWS])
        if len(rows) > _ROWS:
            results.say(f"… and {len(rows) - _ROWS} more in {self.name}.json")
        results.say(f"pictures: {self.study.folder(self.name)}")

    def result(self) -> PictureResults | dict[str, PictureResults]:
        """Return the pictures that were asked for; of several layers, by layer."""
        from cnnlens.report.shown import PictureResults

        found = {
            part.name: PictureResults(part.ledger.folder, part.entries, self._by_place(part))
            for part in self.parts
        }
        return next(iter(found.values())) if len(found) == 1 else found

    def _by_place(self, part: Part) -> dict[int, str]:
        """Files of a part's pictures by the places of the images that they are of."""
        places = {image: place for place, image in enumerate(self.of_images)}
        found: dict[int, str] = {}
        for item in part.there:
            image = self.image_of(item)
            if image in places:
                found.setdefault(places[image], item.name)
        return found
