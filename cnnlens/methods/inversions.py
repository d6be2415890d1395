"""One picture that ``cnnlens invert`` makes: of which image, from what of which layer, how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cnnlens.files import free_name
from cnnlens.files.ledger import Item, Ledger, without_places

if TYPE_CHECKING:
    from torch import Tensor

    from cnnlens.data.given import GivenImage, ImageOfSet
    from cnnlens.model.layer import Layer
    from cnnlens.report.invert_files import Inverted
    from cnnlens.synthesize.reconstruct import Reconstruction


@dataclass(frozen=True)
class Job:
    """One picture to be made: of an image, from a layer's answer, whole or perturbed."""

    layer: Layer
    ledger: Ledger
    image: GivenImage
    method: str
    perturb: str

    @property
    def kind(self) -> str:
        """How it is made, which names its folder."""
        from cnnlens.report.invert_files import kind_of

        return kind_of(self.method, self.perturb)

    @property
    def name(self) -> str:
        """Its file, below the layer's folder."""
        name = f"{self.image.name}.png"
        return name if self.kind == "none" else f"{self.kind}/{name}"

    @property
    def clean(self) -> Job:
        """The same without perturbation."""
        return replace(self, perturb="none")

    def entry(self) -> dict[str, Any] | None:
        """What is known of it; None before it is made."""
        return self.ledger.entries.get(self.name)

    def inverted(self, entry: dict[str, Any]) -> Inverted:
        """Describe it to those who draw it."""
        from cnnlens.report.invert_files import Inverted

        return Inverted(self.layer.name, self.image.name, self.kind, self.ledger.folder, entry)

    def item(self, made_from: Mapping[str, Any], raw: bool) -> Item:
        """What the ledger knows it by, and the files beside it."""
        one, folder = self.inverted(self.entry() or {}), self.ledger.folder
        beside = one.original, one.picture
        files = tuple(path.relative_to(folder).as_posix() for path in beside)
        return Item(self.name, made_from, files, self, raw=raw)

    def write(
        self, found: Reconstruction, photo: Tensor, of: str, raw: bool, learned: bool
    ) -> dict[str, Any]:
        """Write the picture and what stands beside it; return its entry.

        `of` says which images the mean distance is of; `learned`, whether a network that made the
        picture learned from this very image.
        """
        from cnnlens.files import write_npz
        from cnnlens.report.figures.visualize import as_picture
        from cnnlens.report.sheet import save_png

        entry: dict[str, Any] = {
            "file": self.name,
            "layer": self.layer.name,
            "image": self.image.shown,
            "name": self.image.name,
            "method": self.method,
            "perturb": self.perturb,
            "original": self._original(),
            **({"learned_from": True} if learned else {}),
            **found.as_dict(of),
        }
        one = self.inverted(entry)
        planes, original = found.image.cpu().numpy(), photo.cpu().numpy()  # (C, H, W)
        save_png(one.original, as_picture(original))
        save_png(one.picture, as_picture(planes))
        if raw:
            path = (self.ledger.folder / self.name).with_suffix(".npz")
            write_npz(path, image=found.colours(), input=planes, photo=original)
        self.draw(entry)
        return entry

    def _original(self) -> str:
        """Name the photo's file; what other pictures show of an earlier state of it stays."""
        from cnnlens.report.invert_files import ORIGINALS

        def is_taken(stem: str) -> bool:
            return others.get(f"{ORIGINALS}/{stem}.png", mine) != mine

        mine = without_places(self.image.mark)
        known = [e for name, e in self.ledger.entries.items() if name != self.name]
        found = [self.inverted(e) for e in known if e.get("name") == self.image.name]
        folder = self.ledger.folder
        others = {one.original.relative_to(folder).as_posix(): one.state for one in found}
        return f"{ORIGINALS}/{free_name(self.image.name, is_taken)}.png"

    def draw(self, entry: dict[str, Any]) -> None:
        """Set the photo and what was made of it side by side: whole and perturbed, or of a trained
        network and of a search.
        """
        from cnnlens.report.invert_files import save_figure

        one, path = self.inverted(entry), self.ledger.folder / self.name
        before = self.clean if self.perturb != "none" else replace(self, method="regularized")
        known = before.inverted((before != self and before.entry()) or {})
        if known.state == without_places(self.image.mark):
            save_figure(path, known, one)
        else:
            save_figure(path, one)


def pairs_of(examples: Sequence[GivenImage | ImageOfSet]) -> str:
    """Say which images the mean distance is of that errors are held against."""
    from cnnlens.data.given import GivenImage

    first = examples[0]
    if len(examples) == 1:
        return "no mean distance: one image has none, and -d names others"
    if isinstance(first, GivenImage):
        return f"the mean distance of the {len(examples)} given images (-d names others)"
    return f"the mean distance of {len(examples)} images of {first.images.name} (-d names others)"
