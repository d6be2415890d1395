"""From an opened network, labelled images and a request to a trainer: surgery, head, method."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cnnlens.data.labelled import Labelled
from cnnlens.errors import CnnlensError, UsageError, counted
from cnnlens.interpretable.concept_groups import ConceptGroups, Grouped, grouped_layers
from cnnlens.interpretable.icnn import Icnn
from cnnlens.interpretable.method import Method, Plain, Rates, evaluate, split, unmirrored
from cnnlens.interpretable.outputs import fitting, renumbered, said_of_new_head
from cnnlens.interpretable.request import Request
from cnnlens.interpretable.sites import plans_of, sites
from cnnlens.interpretable.trainer import Trainer
from cnnlens.model.architectures import registry
from cnnlens.model.ending import SIGMOID, ending
from cnnlens.model.in_training import Returned, returned_in_training
from cnnlens.model.model import Model
from cnnlens.model.surgery import Plan, check_run, head_of, operate, places_of, start_inserted
from cnnlens.model.twin import copied
from cnnlens.settings.finetune import FinetuneSettings

_SAMPLE = 64  # training images that tell it


@dataclass(frozen=True)
class Prepared:
    """A network that is ready to be trained."""

    model: Model  #: the caller's, with a copy of its network that was operated on
    trainer: Trainer  #: trains that copy in place
    request: Request  #: as it is carried out
    plans: list[Plan]  #: what was done to the architecture
    classes: list[str]  #: names of the outputs
    #: accuracy on the validation images before; None where its classes did not fit
    before: float | None
    notes: list[str]  #: for the user
    copies: int = 0  #: images equal to others: they were once on both sides
    #: where it works, if no layer was named and no convolution's own maps serve
    block: str = ""
    ungrouped: str = ""  #: a convolution that gives the class scores, if no layer was named

    @property
    def mark(self) -> str:
        """Hash of all that decides the result: equal marks, the same training."""
        examples = self.trainer.examples
        assert isinstance(examples, Labelled)
        returned, as_they_are = self.trainer.returned, [p.at for p in self.plans if not p.changes]
        decides = {
            **self.request.as_dict(),
            "model": self.model.fingerprint,
            "preprocess": self.model.preprocess.as_dict(),
            "data": examples.fingerprint,
            "classes": self.classes,
            **({"link": self.trainer.link} if self.trainer.link else {}),
            **({"equal": "on one side"} if self.copies else {}),
            **({"block": self.block} if self.block else {}),
            **({"ungrouped": self.ungrouped} if self.ungrouped else {}),
            **({"as they are": as_they_are} if as_they_are else {}),
            **({"replaced": "under all names"} if self._has_several_names else {}),
            **({} if returned == Returned(link=self.trainer.link) else {"returned": returned}),
        }
        text = repr(sorted(decides.items()))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    @property
    def _has_several_names(self) -> bool:
        """Whether earlier versions replaced a module under one of its names alone."""
        paths = [plan.head or plan.at for plan in self.plans if plan.changes]
        return any(len(places_of(self.trainer.net, path)) > 1 for path in paths)


def prepare(model: Model, labelled: Labelled, request: Request) -> Prepared:
    """Operate on a copy of a network and set its training up.

    Neither the model nor the images are changed.

    Raises
    ------
    UsageError
        When a layer or the network cannot be trained like this.
    """
    _check_name(model)
    model = replace(model, net=copied(model.net), lent_to=None)
    full = model.has_random_weights and request.settings.trunk < 1
    if full:
        request = replace(request, settings=replace(request.settings, trunk=1.0))
    s = request.settings
    training, validation, copies = _sides(labelled, s)
    head, outputs = head_of(model)
    link = _link(model, s)
    returned = returned_in_training(model, link)
    classes, numbers = fitting(model, labelled, outputs)
    examples, before = replace(labelled, device=model.device), None
    if numbers is not None:
        examples.labels = renumbered(labelled, numbers)
        before = evaluate(model.net, examples, validation, s, link)[1]
    layers = sites(model, request, head)
    block = "" if request.layers or not layers or layers[0].alias else layers[0].name
    plans = plans_of(request, layers)
    if numbers is None:
        plans.append(Plan(head=head, classes=len(classes)))
    _operate(model, plans, s.seed)
    factors = _start(model, plans, head, examples, training, s)
    frequency = _frequencies(examples.labels[training], len(classes))
    method = _method(model, request, plans, frequency, head)
    rates = _rates(model, plans, s, factors)
    trainer = Trainer(model.net, examples, training, validation, method, s, rates, link, returned)
    said = [
        "all layers learn at the full rate, as the weights are random" if full else "",
        _said_of_copies(copies),
        f"it ends in a {link.replace('_', ' ')}: it learns by the scores before that"
        if link
        else "",
        returned.said(),
        said_of_new_head(labelled, outputs) if numbers is None else "",
        f"it works on {block}, the last block whose maps are rectified" if block else "",
    ]
    notes = [one for one in said if one]
    ungrouped = _ungrouped(model, request, head)
    return Prepared(
        model, trainer, request, plans, classes, before, notes, copies, block, ungrouped
    )


def _link(model: Model, settings: FinetuneSettings) -> str:
    """What the network ends in; a `UsageError` where the loss that is asked for cannot do so."""
    link = ending(model).link
    if link and settings.loss == "logistic" and link != SIGMOID:
        raise UsageError(
            f"{model.arch} ends in a softmax, which always takes one class for true",
            "name two categories, or a network without it",
        )
    return link


def _ungrouped(model: Model, request: Request, head: str) -> str:
    """Name the convolution that gives the class scores, where groups leave it out unasked."""
    grouped = request.method == "cgl" and not request.layers
    return head if grouped and isinstance(model.net.get_submodule(head), nn.Conv2d) else ""


def _operate(model: Model, plans: list[Plan], seed: int) -> None:
    with torch.random.fork_rng([]):  # a new module draws weights before it is given its own
        for plan in plans:
            operate(model.net, plan, seed)
    # channels last: a third quicker on a CPU
    model.net.eval().to(model.device).to(memory_format=torch.channels_last)
    check_run(model, plans)


def _start(
    model: Model,
    plans: list[Plan],
    head: str,
    examples: Labelled,
    training: Tensor,
    settings: FinetuneSettings,
) -> dict[str, float]:
    """Start inserted convolutions at the scale of the maps, where asked; the factors on rates."""
    if settings.start != "scaled":
        return {}
    factors = {}
    for plan in plans:
        if plan.insert:
            x = unmirrored(examples, training[:: -(-len(training) // _SAMPLE)])
            conv = f"{plan.at}.conv"
            factors[conv] = start_inserted(model.net, conv, head, x, settings.seed)
    return factors


def _rates(
    model: Model, plans: list[Plan], settings: FinetuneSettings, factors: dict[str, float]
) -> Rates:
    new = [name for plan in plans for name in plan.fresh]
    rates = Rates(None if settings.trunk == 1 else new, factors)
    if not any(rates.of(name, settings.trunk) for name, _ in model.net.named_parameters()):
        raise UsageError(
            "nothing is left to train",
            "no layer is new that learns (masks do with --learn-beta): choose --trunk above 0",
        )
    return rates


def _said_of_copies(copies: int) -> str:
    equal = f"{counted(copies, 'image')} equal to others"
    return f"{equal}: all on one side, to learn or held out" if copies else ""


def _sides(labelled: Labelled, settings: FinetuneSettings) -> tuple[Tensor, Tensor, int]:
    """Part the images in those to learn from and those held out; say how many are copies.

    Raises
    ------
    CnnlensError
        When a category has no image on one side, as all of its images are equal ones.
    """
    labels, same = labelled.labels, labelled.first_equal()
    sides = split(labels, settings.validation, settings.seed, same)
    for number, name in enumerate(labelled.classes):
        if not all((labels[side] == number).any() for side in sides):
            raise CnnlensError(
                f"category '{name}' has too few images that differ, pixel by pixel",
                "two at least are needed: some to train on, some to hold out",
            )
    return *sides, int((same != torch.arange(len(same))).sum())


def check(model: Model, request: Request) -> None:
    """See whether a network can be trained as asked, before images are read.

    Raises
    ------
    UsageError
        As `prepare` does for the network and its layers.
    """
    _check_name(model)
    if model.headless:
        raise UsageError(
            f"{model.arch} has no head of classes to train here",
            "name a checkpoint with its head, or code that adds one: file.py:factory",
        )
    head = head_of(model)[0]
    sites(model, request, head)
    returned_in_training(model, ending(model).link)
    if request.method == "cgl":
        grouped_layers(model, request.layers, request.cgl.groups, head)


def _check_name(model: Model) -> None:
    try:
        registry.architecture(model.arch)
    except CnnlensError:
        if model.lent_to is not None:
            raise UsageError(
                f"a module in memory ({model.arch}) has no name by which a checkpoint's reader "
                "could build it",
                "name a factory, file.py:make, in its place",
            ) from None
        raise UsageError(
            f"{model.spec} ({model.arch}) cannot be built again from a checkpoint",
            "name weights of a known architecture, or code: file.py:factory",
        ) from None


def _frequencies(labels: Tensor, classes: int) -> Tensor:
    return torch.bincount(labels[labels >= 0], minlength=classes).float() / len(labels)


def _method(
    model: Model, request: Request, plans: list[Plan], frequency: Tensor, head: str
) -> Method:
    maps = [(name, plan.units) for plan in plans for name in plan.maps]
    record = {"layers": [name for name, _ in maps], "inserted": request.insert}
    if request.method == "icnn":
        return Icnn([n for n, _ in maps], [u for _, u in maps], frequency, request.icnn, record)
    if request.method == "cgl":
        layers = grouped_layers(model, request.layers, request.cgl.groups, head)
        return Grouped(ConceptGroups(layers, request.cgl, request.settings.seed))
    return Plain(record)


def probe(model: Model, *_: object) -> list[str]:
    """See that a network can be trained; say whether its head is replaced."""
    with model.in_use():
        check(model, Request())
    named = model.classes and not model.has_assumed_classes
    return [] if named else ["a new head, unless the class folders fit the outputs"]
