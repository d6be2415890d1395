"""Carries a training out: progress, a checkpoint after each epoch, resuming, files at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.cli.screen import Bars, Screen
from cnnlens.errors import CnnlensError
from cnnlens.files import write_json

if TYPE_CHECKING:
    from torch import Tensor

    from cnnlens.data.dataset import ImageSet
    from cnnlens.interpretable.training import Training

History = list[dict[str, Any]]


def carry_out(
    training: Training, out: Path, images: ImageSet, screen: Screen, first: bool, force: bool
) -> dict[str, Any]:
    """Train from where an earlier run stopped, else from the start; return ``new.json``.

    Parameters
    ----------
    training : Training
        Ready.
    out : pathlib.Path
        The checkpoint.
    images : ImageSet
        What it is trained on.
    screen : Screen
        Where progress is shown.
    first : bool
        Whether this process writes the files.
    force : bool
        Begin anew, whatever is there.

    Raises
    ------
    CnnlensError
        When training diverges, or a file is in the way or cannot be written.
    """
    mark = _mark(training, images)
    history: History = []
    state = None if force else _earlier(out, mark)
    if state is not None:
        history = _resume(training, state, screen)
        if state["training"]["done"]:
            screen.note(f"{out} is trained already; --force trains it anew")
            return _document(training, history)
    try:
        with screen.progress() as bars:
            _train(training, out, mark, history, bars, first)
    except CnnlensError as error:
        if history:
            kept = f"{out} holds the network after epoch {history[-1]['epoch']}"
            raise CnnlensError(error.message, f"{kept}; {error.hint}") from error
        raise
    document = _document(training, history)
    _say_silent(training, screen)
    if first:
        _finish(training, out, mark, history, document)
    return document


def _say_silent(training: Training, screen: Screen) -> None:
    """Warn of layers that died: they are steady, selective, and of no use."""
    from cnnlens.interpretable.icnn import Icnn

    method = training.trainer.method
    if not isinstance(method, Icnn):
        return
    for name, silent in zip(method.masked, _silent(training, method.masked), strict=True):
        dead, units = int(silent.sum()), len(silent)
        if 2 * dead > units:
            screen.note(
                f"{dead} of {units} filters of {name} went silent: start from a trained network, "
                "or try a smaller --lr or --lambda-filter"
            )


def _silent(training: Training, layers: Sequence[str]) -> list[Tensor]:
    """Per layer, (C,) bool: filters that no image held out excites."""
    import torch

    from cnnlens.model.hooks import read
    from cnnlens.model.trace import Place

    trainer = training.trainer
    places = [Place(path=name) for name in layers]
    peaks: list[Tensor] = []
    with torch.no_grad():
        for part in trainer.validation.split(trainer.settings.batch_size):
            x = trainer.examples.inputs(part, torch.zeros(len(part), dtype=torch.bool))
            found = [maps.amax(dim=(0, 2, 3)) for maps in read(trainer.net, x, places)]
            peaks = [torch.maximum(a, b) for a, b in zip(peaks or found, found, strict=True)]
    return [peak <= 0 for peak in peaks]


def _train(
    training: Training, out: Path, mark: str, history: History, bars: Bars, first: bool
) -> None:
    from cnnlens.interpretable.train import Epoch

    for event in training.trainer.run():
        if isinstance(event, Epoch):
            history.append(_entry(event))
            if first:
                _save(training, out, mark, history, done=False)
        else:
            done = (event.epoch - 1) * event.steps + event.step
            said = " ".join(f"{k} {v:.3g}" for k, v in event.terms.items())
            total = training.request.settings.epochs * event.steps
            bars.show("training", done, total, f"epoch {event.epoch}: {said}")


def _entry(event: Any) -> dict[str, Any]:
    return {"epoch": event.epoch, **event.terms}


def _mark(training: Training, images: ImageSet) -> str:
    """Equal marks, the same training."""
    labelled: Any = training.trainer.examples
    decides = {
        **training.request.as_dict(),
        "model": training.model.fingerprint,
        "preprocess": training.model.preprocess.as_dict(),
        "data": images.fingerprint,
        "labels": hashlib.sha256(labelled.labels.numpy().tobytes()).hexdigest(),
        "classes": training.classes,
    }
    text = json.dumps(decides, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _earlier(out: Path, mark: str) -> dict[str, Any] | None:
    """Read what an earlier run of the same training left."""
    from cnnlens.model.checkpoint import is_checkpoint, read_torch

    if not out.exists():
        return None
    content: Any = read_torch(out) if out.is_file() else None
    if is_checkpoint(content) and (content.get("training") or {}).get("mark") == mark:
        return dict(content)
    raise CnnlensError(
        f"{out} is there already, and is not this training's",
        "choose another file with --out, or replace it with --force",
    )


def _resume(training: Training, state: dict[str, Any], screen: Screen) -> History:
    known = state["training"]
    training.trainer.net.load_state_dict(state["state_dict"])
    training.before = known["before"]
    if known["done"]:
        training.trainer.net.eval()
    else:
        training.trainer.load_state_dict(known["state"])
        screen.note(f"going on after epoch {known['state']['epoch']}")
    return list(known["history"])


def _save(training: Training, out: Path, mark: str, history: History, done: bool) -> None:
    from cnnlens.model.checkpoint import save_checkpoint

    model = training.model
    save_checkpoint(
        out, model.net, model.arch, model.preprocess, training.classes,
        interpretable=training.trainer.method.record(),
        surgery=training.surgery,
        training={
            **training.request.as_dict(),
            "mark": mark,
            "done": done,
            "before": training.before,
            "history": history,
            "state": None if done else training.trainer.state_dict(),
        },
    )  # fmt: skip


def _document(training: Training, history: History) -> dict[str, Any]:
    trainer = training.trainer
    record = trainer.method.record()
    return {
        "method": record["method"],
        "layers": record["layers"],
        "epochs": len(history),
        "accuracy": {
            "before": training.before,
            "after": trainer.evaluate(trainer.validation)[1],
        },
        "images": {"training": len(trainer.training), "validation": len(trainer.validation)},
        "classes": training.classes,
        "settings": training.request.as_dict(),
        "history": history,
    }


def _finish(
    training: Training, out: Path, mark: str, history: History, document: dict[str, Any]
) -> None:
    from cnnlens.interpretable.method import Grouped
    from cnnlens.report.figures.training import draw_history

    method = training.trainer.method
    if isinstance(method, Grouped):
        document["groups"] = _groups(training, method)
    write_json(out.with_suffix(".json"), document)
    draw_history(history, out.with_suffix(".png"), f"{training.model.arch}, {method.name}")
    _save(training, out, mark, history, done=True)


def _groups(training: Training, method: Any) -> Any:
    import torch

    from cnnlens.interpretable.group_record import record_groups

    trainer = training.trainer
    parts = trainer.validation.split(trainer.settings.batch_size)
    batches = (trainer.examples.inputs(p, torch.zeros(len(p), dtype=torch.bool)) for p in parts)
    return record_groups(method.groups, trainer.net, batches)
