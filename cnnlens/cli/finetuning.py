"""Carries a training out: progress, a checkpoint after each epoch, resuming, files at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.cli.screen import Screen
from cnnlens.errors import CnnlensError
from cnnlens.files import write_json
from cnnlens.study.voice import Bars

if TYPE_CHECKING:
    from cnnlens.interpretable.finetune import Finetuning


def carry_out(
    run: Finetuning, out: Path, screen: Screen, first: bool, force: bool
) -> dict[str, Any]:
    """Train from where an earlier run stopped, else from the start; return ``new.json``.

    Parameters
    ----------
    run : Finetuning
        Not yet begun.
    out : pathlib.Path
        The checkpoint.
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
    if out.exists() and not force:
        _resume(run, out, screen)
        if run.done:
            screen.note(f"{out} is trained already; --force trains it anew")
            return run.document()
    try:
        with screen.progress() as bars:
            _train(run, out, bars, first)
    except CnnlensError as error:
        if run.history:
            kept = f"{out} holds the network after epoch {run.history[-1]['epoch']}"
            raise CnnlensError(error.message, f"{kept}; {error.hint}") from error
        raise
    document = run.document()
    for line in run.warnings:
        screen.note(line)
    if first:
        _finish(run, out, document)
    return document


def _resume(run: Finetuning, out: Path, screen: Screen) -> None:
    from cnnlens.model.checkpoint import read_torch

    content: Any = read_torch(out) if out.is_file() else None
    if not run.belongs(content):
        raise CnnlensError(
            f"{out} is there already, and is not this training's",
            "choose another file with --out, or replace it with --force",
        )
    run.resume(content)
    if not run.done:
        screen.note(f"going on after epoch {run.trainer.epoch}")


def _train(run: Finetuning, out: Path, bars: Bars, first: bool) -> None:
    from cnnlens.interpretable.trainer import Epoch

    for event in run:
        if not isinstance(event, Epoch):
            done = (event.epoch - 1) * event.steps + event.step
            terms = " ".join(f"{k} {v:.3g}" for k, v in event.terms.items())
            total = run.request.settings.epochs * event.steps
            bars.show("training", done, total, f"epoch {event.epoch}: {terms}")
        elif first:
            _save(run, out)


def _save(run: Finetuning, out: Path) -> None:
    from cnnlens.model.checkpoint import save_checkpoint

    save_checkpoint(out, **run.checkpoint())


def _finish(run: Finetuning, out: Path, document: dict[str, Any]) -> None:
    from cnnlens.report.figures.training import draw_history

    write_json(out.with_suffix(".json"), document)
    title = f"{run.model.arch}, {document['method']}"
    draw_history(run.history, out.with_suffix(".png"), title)
    _save(run, out)
