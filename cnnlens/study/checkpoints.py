"""Checkpoints of one training: opened one after the other, held against each other, in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError, UsageError, counted
from cnnlens.model.matching import natural
from cnnlens.settings.place import portable, same_place

if TYPE_CHECKING:
    from cnnlens.model.model import Model
    from cnnlens.study.session import Study


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, closed again: networks are large, and there may be many.

    Attributes
    ----------
    spec : str
        What opens it.
    name : str
        Its file, with as many folders as tell it from the others.
    fingerprint : str
        Of its network.
    epoch : float or None
        As its file says.
    """

    spec: str
    name: str
    fingerprint: str
    epoch: float | None


class Checkpoints:
    """The checkpoints of a study, which is then about one of them.

    It is the one that the workspace is about already, else the last.

    Parameters
    ----------
    study : Study
        Whose settings open them.
    specs : sequence of str
        As typed.

    Attributes
    ----------
    all : list of Checkpoint
        In the order of the training: by epoch where every file says it, else as typed.
    order : {"epoch", "given"}
        Which of the two it is.

    Raises
    ------
    UsageError
        When none was named.
    CnnlensError
        When one cannot be opened, or they are not of one training.
    """

    def __init__(self, study: Study, specs: Sequence[str]) -> None:
        if not specs:
            raise UsageError(
                "no checkpoints were named",
                "name those of one training: cnnlens evolve new-epochs/*.pt -f LAYER:UNITS -d DIR",
            )
        self._study, known = study, study.workspace.model_options
        self._specs = list(dict.fromkeys(map(portable, specs)))
        among = None
        if known and any(same_place(known["spec"], spec) for spec in self._specs):
            among = known
        self._options = study.opened_by(among)
        with study.voice.counted("opening", "checkpoints") as progress:
            self.all, notes = self._read(progress)
        told = all(one.epoch is not None for one in self.all)
        self.order = "epoch" if told else "given"
        if told:
            self.all.sort(key=lambda one: one.epoch or 0)
        if len(specs) > len(self._specs):
            study.voice.note("a file that is named more than once is taken once")
        self._settle(notes)

    def _read(self, progress: Callable[[int, int], None]) -> tuple[list[Checkpoint], list[str]]:
        """Open each once; return those that differ, and what was said on opening them."""
        names = tails(self._specs)
        found: dict[object, Checkpoint] = {}
        notes: list[str] = []
        first: dict[str, Any] = {}
        for number, (spec, name) in enumerate(zip(self._specs, names, strict=True)):
            progress(number, len(names))
            model = self._opened(spec)
            described = _described(model)
            first = first or described
            if said := unlike(first, described):
                raise CnnlensError(
                    f"{names[0]} and {name} are no checkpoints of one training: {said}",
                    "name files of one training; --arch, --image-size, --mean, --std hold for all",
                )
            notes += [note.replace(Path(spec).name, names[0]) for note in model.notes]
            mark = model.fingerprint, model.epoch
            if mark in found:
                notes.append(f"{name} is the same network as {found[mark].name}: it is taken once")
            found.setdefault(mark, Checkpoint(spec, name, model.fingerprint, model.epoch))
        return list(found.values()), list(dict.fromkeys(notes))

    def _opened(self, spec: str) -> Model:
        from cnnlens.model.open import open_model

        model = open_model(spec, device=self._study.run.device, **self._options)
        return self._study.workspace.known_as(model).computing(self._study.run.precision)

    def _settle(self, notes: Sequence[str]) -> None:
        """Let the study be about one of them; say what was assumed, and the order."""
        study = self._study
        known = study.workspace.document["model"] or {}
        mine = [one for one in self.all if one.fingerprint == known.get("fingerprint")]
        chosen = (mine or self.all)[-1]
        model, options = self._opened(chosen.spec), self._options
        if mine:  # it keeps the file that the workspace knows, and what was said of it
            options = study.opened_by(study.workspace.model_options)
            fed = (options[name] for name in ("image_size", "mean", "std"))
            model = replace(model, spec=known["spec"], preprocess=model.preprocess.overridden(*fed))
        if options["classes"] is None:
            model = study.workspace.recalled(model)
        study.spec, study.options, study.model = model.spec, options, model
        for line in (*notes, f"{model.arch}: {model.preprocess}"):
            study.voice.note(line)
        study.voice.note(self._said())
        if self.order == "given" and (other := numbered_otherwise([one.name for one in self.all])):
            first = ", ".join(other[:3]) + (", …" if len(other) > 3 else "")
            study.voice.note(
                f"the numbers in their names say another order: {first}; name them so "
                "(in a shell $(ls -v FOLDER/*), not FOLDER/*)"
            )

    def _said(self) -> str:
        """Say how many there are, in which order."""
        if len(self.all) == 1:
            return "one checkpoint: there is nothing that it could be held against"
        lacking = [one.name for one in self.all if one.epoch is None]
        by = f"as given ({lacking[0]} says no epoch)" if lacking else "by the epoch in each file"
        return f"{counted(len(self.all), 'checkpoint')}, in order {by}"

    def open(self, checkpoint: Checkpoint) -> Model:
        """Open one again, fed as the study's."""
        own = self._study.model
        if checkpoint.fingerprint == own.fingerprint:
            return own
        return replace(self._opened(checkpoint.spec), preprocess=own.preprocess)


def numbered_otherwise(names: Sequence[str]) -> list[str]:
    """Give names in the order of their numbers, where they stand in another; else none.

    A shell lists epoch10 before epoch2. Only names that differ in nothing but numbers say an order.
    """
    if len({re.sub(r"\d+", "0", name) for name in names}) > 1:
        return []
    ordered = sorted(names, key=natural)
    return ordered if ordered != list(names) else []


def tails(specs: Sequence[str]) -> list[str]:
    """Name files by their last parts, as many as make them unique."""
    parts = [Path(spec).parts for spec in specs]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return list(specs)


def _described(model: Model) -> dict[str, Any]:
    state = model.net.state_dict()
    return {
        "arch": model.arch,
        "tensors": {k: tuple(v.shape) for k, v in state.items() if hasattr(v, "shape")},
        "preprocess": model.preprocess,
    }


def unlike(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Say in what two networks differ that one training cannot have; empty where in nothing."""
    mine, theirs = one["tensors"], other["tensors"]
    if one["arch"] != other["arch"]:
        return f"{one['arch']} against {other['arch']}"
    for name in dict.fromkeys((*mine, *theirs)):
        if mine.get(name) != theirs.get(name):
            shapes = (_shape(tensors.get(name)) for tensors in (mine, theirs))
            return f"{name} is {' against '.join(shapes)}"
    if one["preprocess"].key != other["preprocess"].key:
        return f"they are fed {one['preprocess']} against {other['preprocess']}"
    return ""


def _shape(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else "×".join(map(str, shape)) or "a number"
