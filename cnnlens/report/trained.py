"""What fine-tuning found: its history as a picture, and as a notebook shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnlens.data.dataset import ImageSet
from cnnlens.errors import CnnlensError, counted
from cnnlens.files import make_folder, read_json, write_json
from cnnlens.interpretable.finetune import Finetuning, weights_words
from cnnlens.measure.accuracy import held_out_images
from cnnlens.model.checkpoint import read_training, save_checkpoint
from cnnlens.model.weights_file import read_torch
from cnnlens.report.figures import colours, new_figure, save_figure
from cnnlens.report.shown import Fact, Picture, Shown


@dataclass(frozen=True, eq=False)
class Training(Shown):
    """A network that was trained further; `table` gives its history, epoch by epoch.

    Attributes
    ----------
    path : pathlib.Path
        The checkpoint, which every command and `Investigation` open.
    document : dict
        ``new.json``.
    silent : mapping of str to (int, int)
        Units that no image held out excites, and all units, of each inserted or masked layer.
    """

    path: Path
    document: Mapping[str, Any]
    silent: Mapping[str, tuple[int, int]]

    @property
    def accuracy(self) -> float:
        """Share of images held out that are right after the training."""
        return float(self.document["accuracy"]["after"])

    @property
    def accuracy_before(self) -> float | None:
        """The same before it; None where the network had other classes."""
        before = self.document["accuracy"]["before"]
        return None if before is None else float(before)

    @property
    def dead_units(self) -> int:
        """Units of inserted or masked layers that no image held out excites."""
        return sum(dead for dead, _ in self.silent.values())

    @property
    def history(self) -> list[dict[str, Any]]:
        """``epoch`` and all terms of each epoch."""
        return [dict(entry) for entry in self.document["history"]]

    def table(self) -> list[dict[str, Any]]:
        """Give the history."""
        return self.history

    def _title(self) -> str:
        epochs = counted(self.document["epochs"], "epoch")
        return f"{self.path.name}: {self.document['method']}, {epochs}"

    def _facts(self) -> Iterable[Fact]:
        held = self.document["images"]["validation"]
        yield f"accuracy on {held} images held out", f"{self.accuracy:.3f}", ""
        if self.accuracy_before is not None:
            yield "before", f"{self.accuracy_before:.3f}", ""
        for name, (dead, units) in self.silent.items():
            yield f"units of {name} that are silent", f"{dead} of {units}", ""
        if said := weights_words(self.document):
            yield "weights", said, ""
        yield from (("note", note, "") for note in self.document.get("notes", []))
        yield "checkpoint", str(self.path), ""

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        drawn = self.path.with_suffix(".png")
        yield "", drawn if drawn.is_file() else None


def training_of(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read what lies beside a fine-tuned checkpoint: ``new.json`` beside ``new.pt``, else {}."""
    spec = model.get("spec")
    if not isinstance(spec, str) or ":" in Path(spec).name or not Path(spec).name.strip("."):
        return {}
    beside = Path(spec).with_suffix(".json")
    if not beside.is_file():
        return {}
    found = read_json(beside)
    return found if isinstance(found, dict) and "method" in found else {}


def record_of(spec: str) -> Mapping[str, Any]:
    """Read what is known of a network's fine-tuning: from its checkpoint, wherever that was copied
    to, and from what lies beside it, where that is of the same training; {} where it had none.
    """
    own = read_training(Path(spec)) if Path(spec).is_file() else {}
    beside = training_of({"spec": spec})
    if own.get("of") and beside.get("of", own["of"]) != own["of"]:
        return own
    return {**own, **beside, **({"held_out": own["held_out"]} if "held_out" in own else {})}


def seen_in_training(spec: str, images: ImageSet) -> str:
    """Say how many images of a data set a network was trained on; "" where that is not known."""
    held = held_out_images(record_of(spec))
    if held is None or held[0] != images.fingerprint:
        return ""
    count, every = len(images.paths) - len(held[1]), len(images.paths)
    return (
        f"{Path(spec).name} was trained on {count} of these {every} images: what is measured on "
        f"them is no proof for others (its fine-tuning held out {len(held[1])})"
    )


def leaked(run: Finetuning, spec: str) -> str:
    """Say how many of the images held out an earlier fine-tuning of the network has seen."""
    mine, earlier = (held_out_images(one) for one in (run.held_out(), record_of(spec)))
    if mine is None or earlier is None or mine[0] != earlier[0]:
        return ""
    if not (seen := set(mine[1]) - set(earlier[1])):
        return ""
    return (
        f"{Path(spec).name} was trained on {len(seen)} of the {len(mine[1])} images that are held "
        "out: accuracy on them is no proof for others (the same --seed and --validation hold out "
        "the same)"
    )


def forget(out: Path) -> None:
    """Remove what an earlier training has left beside a checkpoint that is made anew."""
    if training_of({"spec": str(out)}):
        for ending in (".json", ".png", ".svg"):
            out.with_suffix(ending).unlink(missing_ok=True)


def held_out_of(spec: str, named: bool = False) -> dict[str, Any] | None:
    """Read which images a fine-tuning held out, from ``new.json`` or ``new.pt``.

    Returns
    -------
    dict or None
        ``data``, the fingerprint of the data; ``images``, their positions in it. None where nothing
        says it.

    Raises
    ------
    CnnlensError
        Where nothing says it, and the file was `named`.
    """
    if found := held_out_images(record_of(spec)):
        return {"data": found[0], "images": found[1]}
    if named:
        raise CnnlensError(
            f"{spec} does not say which images were held out",
            "name the new.json of a fine-tuning; earlier versions did not record it: train anew",
        )
    return None


# -- new.pt, new.json, new.png -------------------------------------------------------------------


def save(run: Finetuning, out: Path) -> None:
    """Write the checkpoint of the epoch just done."""
    save_checkpoint(out, **run.checkpoint())


def resume(run: Finetuning, out: Path) -> None:
    """Let a training go on from the checkpoint that is there.

    Raises
    ------
    CnnlensError
        When it is another's.
    """
    content: Any = read_torch(out) if out.is_file() else None
    if not run.belongs(content):
        raise CnnlensError(
            f"{out} is there already, and is not this training's",
            "choose another file with --out, or replace it with --force",
        )
    run.resume(content)


def epochs_folder(out: Path) -> Path:
    """Where the checkpoints of every epoch go: ``new-epochs`` for ``new.pt``."""
    return out.with_name(f"{out.stem}-epochs")


def _kept(run: Finetuning, out: Path, epoch: int) -> Path:
    digits = max(3, len(str(run.trainer.settings.epochs)))
    return epochs_folder(out) / f"epoch-{epoch:0{digits}d}.pt"


def keep(run: Finetuning, out: Path) -> None:
    """Keep the network as it stands, under its epoch's number."""
    make_folder(epochs_folder(out))
    save_checkpoint(_kept(run, out, run.epoch), **run.snapshot())


def begin_keeping(run: Finetuning, out: Path, force: bool) -> list[str]:
    """Keep what the training starts from, or goes on from; say what that costs, or what is lacking.

    Raises
    ------
    CnnlensError
        When checkpoints of another training are in the way, and there is no `force`.
    """
    folder = epochs_folder(out)
    for path in sorted(folder.glob("epoch-*.pt")):
        if force and not run.done:
            path.unlink()
        elif not _is_of(run, path):
            raise CnnlensError(
                f"{path} is there already, and is not this training's",
                "choose another file with --out, or replace them with --force",
            )
    lacking = [n for n in range(run.epoch) if not _kept(run, out, n).is_file()]
    said = []
    if lacking:
        said.append(f"{len(lacking)} earlier epochs were trained without --keep-checkpoints")
    if run.done:
        return said
    if not _kept(run, out, run.epoch).is_file():
        keep(run, out)
    size = sum(t.nbytes for t in run.net.state_dict().values()) / 1e6
    count = run.trainer.settings.epochs + 1
    return [*said, f"{folder}: {count} checkpoints of {size:.3g} MB, {count * size:.3g} MB in all"]


def _is_of(run: Finetuning, path: Path) -> bool:
    with suppress(CnnlensError, LookupError, TypeError, AttributeError):
        found: Any = read_torch(path)
        return bool(found["training"].get("of") == run.mark)
    return False


def finish(run: Finetuning, out: Path, document: Mapping[str, Any]) -> None:
    """Write document and history beside the checkpoint, which then says that it is done."""
    write_json(out.with_suffix(".json"), document)
    draw_history(run.history, out.with_suffix(".png"), f"{run.model.arch}, {document['method']}")
    save(run, out)


_TOGETHER = (("task_loss", "validation_loss"), ("accuracy", "validation_accuracy"))


def panels(terms: Sequence[str]) -> list[list[str]]:
    """Put terms that are to be compared into one panel each, the others into their own."""
    together = [[term for term in group if term in terms] for group in _TOGETHER]
    known = {term for group in together for term in group}
    return [group for group in together if group] + [[t] for t in terms if t not in known]


def draw_history(history: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Draw a training's terms into a PNG, one panel for each kind; `history` has ``epoch`` and the
    terms of each epoch.
    """
    if not history:
        return
    from matplotlib.ticker import FixedLocator, MaxNLocator

    shown = panels([name for name in history[-1] if name != "epoch"])
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(3.6 * columns, 0.4 + 2.7 * rows, dpi=144, layout="constrained")
    figure.suptitle(title, fontsize=10)
    epochs = [entry["epoch"] for entry in history]
    ink = [colour.light for colour in colours(["object", "texture"]).values()]
    for place, terms in enumerate(shown, 1):
        axes = figure.add_subplot(rows, columns, place)
        for term, colour in zip(terms, ink, strict=False):
            values = [entry.get(term, float("nan")) for entry in history]
            name = "held out" if term.startswith("validation") else "training"
            axes.plot(epochs, values, marker="o", markersize=3, color=colour, label=name)
        axes.set_title(terms[0].replace("_", " "), fontsize=9)
        axes.set_xlabel("epoch", fontsize=8)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.tick_params(labelsize=8)
        ticks = MaxNLocator(integer=True) if len(epochs) > 1 else FixedLocator(epochs)
        axes.xaxis.set_major_locator(ticks)
        axes.spines[["top", "right"]].set_visible(False)
        if len(terms) > 1:
            axes.legend(fontsize=8, frameon=False)
    save_figure(figure, path)
