"""Training a network further, with or without a method that makes its filters stand for something.

    run = finetune(model, read_labelled(images, model.preprocess), "icnn", ("features.12",))
    for step in run:
        ...                     # Step after each update, Epoch after each pass
    run.trained                 # a Model, which every other function takes
    run.document()              # accuracy before and after, the history, what went wrong

The caller's model, images and random state stay as they are. Nothing is written: who wants to go
on after an interruption keeps `Finetuning.state` after each epoch and hands it to `resume`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from cnnlens.data.labelled import Labelled
from cnnlens.interpretable.concept_groups import Grouped
from cnnlens.interpretable.group_report import record_groups
from cnnlens.interpretable.held_out import Answers, ask, inputs
from cnnlens.interpretable.prepare import Prepared, prepare
from cnnlens.interpretable.request import Request
from cnnlens.interpretable.trainer import Epoch, Step
from cnnlens.model.gradients import with_gradients
from cnnlens.model.model import Model, fingerprint
from cnnlens.model.twin import copied
from cnnlens.settings.finetune import CglSettings, FinetuneSettings, IcnnSettings


@with_gradients
def finetune(
    model: Model,
    labelled: Labelled,
    method: str = "none",
    layers: Sequence[str] = (),
    *,
    insert: bool | None = None,
    settings: FinetuneSettings | None = None,
    icnn: IcnnSettings | None = None,
    cgl: CglSettings | None = None,
    resume: Mapping[str, Any] | None = None,
) -> Finetuning:
    """Prepare a training; iterating the result carries it out.

    Parameters
    ----------
    model : Model
        A known architecture; it is copied.
    labelled : Labelled
        Decoded images with labels, see `cnnlens.data.labelled.read_labelled`.
    method : {"none", "icnn", "cgl"}
        What to train for besides the task.
    layers : sequence of str
        Where; left out: the last convolution or the block around it (icnn, insert), or all but
        one that gives the class scores (cgl).
    insert : bool, optional
        Another convolution above the last layer. Default: for icnn.
    settings, icnn, cgl
        Of the training and of the methods.
    resume : mapping, optional
        State of an earlier run of the same training, see `Finetuning.resume`.

    Returns
    -------
    Finetuning
        Not yet begun.

    Raises
    ------
    UsageError
        When a layer or the network cannot be trained like this.
    ValueError
        When `resume` is another training's.
    """
    request = Request(
        method,
        tuple(layers),
        method == "icnn" if insert is None else insert,
        settings or FinetuneSettings(),
        icnn or IcnnSettings(),
        cgl or CglSettings(),
    )
    run = Finetuning(prepare(model, labelled, request))
    if resume is not None:
        run.resume(resume)
    return run


def accuracy_words(document: Mapping[str, Any]) -> str:
    """Say how right a network is after its training, from `Finetuning.document`."""
    before, after = (document["accuracy"][k] for k in ("before", "after"))
    was = "" if before is None else f" (before: {before:.3f})"
    return f"accuracy on images held out: {after:.3f}{was}"


def weights_words(document: Mapping[str, Any]) -> str:
    """Say which epoch's weights a network has, from `Finetuning.document`; "" for the last's."""
    of, done, planned = document["epoch"], document["epochs"], document["settings"]["epochs"]
    if of == done:
        return ""
    ended = f"stopped after epoch {done} of {planned}: " if done < planned else ""
    return (
        f"{ended}the weights are those of epoch {of}, whose loss on images held out is the lowest"
    )


class Finetuning:
    """A training: iterate it, keep its state after each epoch, read its document at the end.

    Who keeps files does it in this order::

        run = finetune(model, labelled, method, layers, settings=settings)
        say(run.notes)
        if out exists and belongs to it: run.resume(content)    # run.belongs(content)
        for step in run:                                        # nothing where it is done
            if isinstance(step, Epoch):
                save_checkpoint(out, **run.checkpoint())
        document = run.document()
        say(run.warnings)
        save_checkpoint(out, **run.checkpoint())                # says that it is done

    Parameters
    ----------
    prepared : Prepared
        What `prepare` gives.

    Attributes
    ----------
    history : list of dict
        ``epoch`` and the terms of each epoch done.
    done : bool
        Whether the last epoch is behind it.
    mark : str
        Hash of all that decides the result: equal marks, the same training.
    notes : list of str
        What was decided for the user in preparing it.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.model, self.trainer = prepared.model, prepared.trainer
        self.request, self.classes = prepared.request, prepared.classes
        self.before, self.notes = prepared.before, prepared.notes
        self.history: list[dict[str, Any]] = []
        self.done = False
        self.mark = prepared.mark
        self._last: Answers | None = None

    @property
    def net(self) -> nn.Module:
        """The network in training, a copy of the caller's."""
        return self.trainer.net

    @property
    def surgery(self) -> list[dict[str, Any]]:
        """All that was done to the architecture, earlier trainings included."""
        done = [plan.as_dict() for plan in self.prepared.plans if plan.changes]
        return [*self.model.surgery, *done]

    @property
    def trained(self) -> Model:
        """The network as it stands, as every other function takes it."""
        net = copied(self.net).eval().requires_grad_(False)
        plans = "".join(str(plan) for plan in self.surgery)
        return replace(
            self.model,
            net=net,
            classes=list(self.classes),
            fingerprint=fingerprint(self.model.arch, net, plans),
            surgery=self.surgery,
            interpretable=list(self.trainer.method.record()["layers"]),
            notes=[],
        )

    def belongs(self, content: Any) -> bool:
        """Whether a checkpoint's content is of this very training."""
        known = isinstance(content, Mapping) and content.get("training")
        return isinstance(known, Mapping) and known.get("mark") == self.mark

    def resume(self, content: Mapping[str, Any]) -> None:
        """Go on from an earlier run's `state`, or from the content of its checkpoint.

        Raises
        ------
        ValueError
            When it is another training's.
        """
        if not self.belongs(content):
            raise ValueError("the state is not of this training")
        known, self._last = content["training"], None
        self.net.load_state_dict(content["state_dict"])
        self.before, self.done = known["before"], known["done"]
        self.history = copy.deepcopy(known["history"])
        if self.done:
            self.net.eval()
        else:
            self.trainer.load_state_dict(copy.deepcopy(known["state"]))

    def __iter__(self) -> Iterator[Step | Epoch]:
        """Train on from where it stands, `Step` by `Step`, with an `Epoch` after each pass.

        Raises
        ------
        CnnlensError
            When training diverges.
        """
        if self.done:
            return
        for step in self.trainer.run():
            if isinstance(step, Epoch):
                self.history.append({"epoch": step.epoch, **step.terms})
            yield step
        self.done = True

    @property
    def epoch(self) -> int:
        """Of the weights: epochs done; the best one, once a training with patience has ended."""
        if not (self.done and self.history and self.request.settings.patience):
            return len(self.history)
        return int(min(self.history, key=lambda entry: entry["validation_loss"])["epoch"])

    def snapshot(self) -> dict[str, Any]:
        """Return what `cnnlens.model.checkpoint.save_checkpoint` takes, to look at the network.

        It shares the network's tensors: write it before going on.
        """
        return {
            "net": self.net,
            "arch": self.model.arch,
            "preprocess": self.model.preprocess,
            "classes": self.classes,
            "interpretable": self.trainer.method.record(),
            "surgery": self.surgery,
            "epoch": self.epoch,
            "training": {
                **self.request.as_dict(),
                **self._outputs(),
                "of": self.mark,
                **self.held_out(),
            },
        }

    def checkpoint(self) -> dict[str, Any]:
        """Return a `snapshot` of the epoch just done from which the training can go on, too."""
        found = self.snapshot()
        more = {
            "mark": self.mark,
            "done": self.done,
            "before": self.before,
            "history": self.history,
            "state": None if self.done else self.trainer.state_dict(),
        }
        return {**found, "training": {**found["training"], **more}}

    def state(self) -> dict[str, Any]:
        """Return a copy of what `resume` needs, to keep in memory."""
        training = self.checkpoint()["training"]
        return copy.deepcopy({"state_dict": self.net.state_dict(), "training": training})

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the trained network: dead layers, answers that tell nothing."""
        return self._answers().warnings()

    def document(self) -> dict[str, Any]:
        """Return what ``new.json`` holds; `warnings` stand under ``notes`` where there are any."""
        trainer, record = self.trainer, self.trainer.method.record()
        answers = self._answers()
        found = {
            "method": record["method"],
            "of": self.mark,
            "layers": record["layers"],
            "epochs": len(self.history),
            "epoch": self.epoch,
            "accuracy": {
                "before": self.before,
                "after": answers.accuracy,
                "chance": answers.chance,
            },
            "images": {"training": len(trainer.training), "validation": len(trainer.validation)},
            **self.held_out(),
            **self._outputs(),
            "classes": self.classes,
            "settings": self.request.as_dict(),
            "history": self.history,
        }
        if self.done and isinstance(trainer.method, Grouped):
            shown = (x for _, x in inputs(trainer))
            found["groups"] = record_groups(trainer.method.groups, self.net, shown)
        return found | ({"notes": self.warnings} if self.done and self.warnings else {})

    def _outputs(self) -> dict[str, Any]:
        """Say by which output it learns, where it returns several in training mode."""
        found = self.trainer.returned
        unused = list(found.unused)
        return {"outputs": {"learned": found.name, "unused": unused}} if unused else {}

    def held_out(self) -> dict[str, Any]:
        """Say which images of which data were held out, where these were read from a data set."""
        examples = self.trainer.examples
        if not isinstance(examples, Labelled) or examples.positions is None:
            return {}
        rows = examples.positions[self.trainer.validation.cpu().numpy()]
        return {"held_out": {"data": examples.data, "images": rows[rows >= 0].tolist()}}

    def silent(self) -> dict[str, tuple[int, int]]:
        """Count, in each inserted or masked layer, units that no image held out excites, and all.

        Returns
        -------
        dict of str to (int, int)
            By the module's name.
        """
        return dict(self._answers().silent)

    def _answers(self) -> Answers:
        """Show the network the images held out; once it is done, once for all who ask."""
        if self._last is not None:
            return self._last
        found = ask(self.trainer, [name for plan in self.prepared.plans for name in plan.maps])
        if self.done:  # it does not change any more
            self._last = found
        return found
