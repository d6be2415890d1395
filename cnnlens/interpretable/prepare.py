"""From an opened network, labelled images and a request to a trainer: surgery, head, method."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from cnnlens.data.labelled import Labelled
from cnnlens.errors import CnnlensError, UsageError, counted
from cnnlens.interpretable.concept_groups import ConceptGroups, Grouped, grouped_layers
from cnnlens.interpretable.icnn import Icnn
from cnnlens.interpretable.method import Method, Plain, Rates, evaluate, split, unmirrored
from cnnlens.interpretable.trainer import Trainer
from cnnlens.model.architectures import registry
from cnnlens.model.class_order import check_order, chosen
from cnnlens.model.convolutions import find_convolutions
from cnnlens.model.ending import SIGMOID, before_link, ending, link_of
from cnnlens.model.in_training import Returned, returned_in_training
from cnnlens.model.layers import Layer
from cnnlens.model.matching import Reading, readings
from cnnlens.model.model import Model
from cnnlens.model.rectified import RectifiedLayers, within
from cnnlens.model.surgery import Plan, head_of, operate, start_inserted
from cnnlens.settings.finetune import CglSettings, FinetuneSettings, IcnnSettings, TaskSettings

_SAMPLE = 64  # training images that tell it


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    method: str = "none"  #: "none", "icnn" or "cgl"
    #: where; none means the last convolution or its block (icnn, insert), or all of them (cgl)
    layers: tuple[str, ...] = ()
    insert: bool = False  #: another convolution above the last of them
    settings: FinetuneSettings = field(default_factory=FinetuneSettings)  #: the training
    #: icnn, cgl: the methods' own
    icnn: IcnnSettings = field(default_factory=IcnnSettings)
    cgl: CglSettings = field(default_factory=CglSettings)

    @classmethod
    def of(
        cls,
        layers: Sequence[str],
        alone: bool,
        settings: FinetuneSettings,
        icnn: IcnnSettings,
        cgl: CglSettings,
        task: TaskSettings,
    ) -> Request:
        """Complete what was asked for by what is usual.

        Parameters
        ----------
        alone : bool
            Whether one category is told from all else, or there are images of none.
        layers, settings, icnn, cgl, task
            What was asked for.

        Raises
        ------
        UsageError
            For a softmax where some images have no category.
        """
        if alone and task.loss == "softmax":
            raise UsageError("--loss softmax has no place for negatives", "leave it out")
        settings = replace(settings, loss=task.loss or ("logistic" if alone else "softmax"))
        insert = task.method == "icnn" if task.insert is None else task.insert
        return cls(task.method, tuple(layers), insert, settings, icnn, cgl)

    @property
    def masks(self) -> bool:
        """Whether maps are masked."""
        return self.method == "icnn" and self.icnn.mask

    def as_dict(self) -> dict[str, Any]:
        """Return what decides the result, for a checkpoint."""
        own = {"icnn": asdict(self.icnn), "cgl": asdict(self.cgl)}.get(self.method, {})
        return {
            "method": self.method,
            "asked": list(self.layers),
            "insert": self.insert,
            **self.settings.as_dict(),
            self.method: own,
        }


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

    @property
    def mark(self) -> str:
        """Hash of all that decides the result: equal marks, the same training."""
        examples = self.trainer.examples
        assert isinstance(examples, Labelled)
        returned = self.trainer.returned
        decides = {
            **self.request.as_dict(),
            "model": self.model.fingerprint,
            "preprocess": self.model.preprocess.as_dict(),
            "data": examples.fingerprint,
            "classes": self.classes,
            **({"link": self.trainer.link} if self.trainer.link else {}),
            **({"equal": "on one side"} if self.copies else {}),
            **({"block": self.block} if self.block else {}),
            **({} if returned == Returned(link=self.trainer.link) else {"returned": returned}),
        }
        text = repr(sorted(decides.items()))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def prepare(model: Model, labelled: Labelled, request: Request) -> Prepared:
    """Operate on a copy of a network and set its training up.

    Neither the model nor the images are changed.

    Raises
    ------
    UsageError
        When a layer or the network cannot be trained like this.
    """
    _check_name(model)
    model = replace(model, net=copy.deepcopy(model.net), lent_to=None)
    notes: list[str] = []
    if model.has_random_weights and request.settings.trunk < 1:
        request = replace(request, settings=replace(request.settings, trunk=1.0))
        notes.append("all layers learn at the full rate, as the weights are random")
    s = request.settings
    training, validation, copies = _sides(labelled, s)
    if copies:
        equal = f"{counted(copies, 'image')} equal to others"
        notes.append(f"{equal}: all on one side, to learn or held out")
    head, outputs = head_of(model)
    if link := ending(model).link:
        if s.loss == "logistic" and link != SIGMOID:
            raise UsageError(
                f"{model.arch} ends in a softmax, which always takes one class for true",
                "name two categories, or a network without it",
            )
        notes.append(f"it ends in a {link.replace('_', ' ')}: it learns by the scores before that")
    returned = returned_in_training(model, link)
    notes += [said] if (said := returned.said()) else []
    classes, numbers = _fitting(model, labelled, outputs)
    examples = replace(labelled, device=model.device)
    if numbers is not None:
        examples.labels = _renumbered(labelled, numbers)
        before = evaluate(model.net, examples, validation, s, link)[1]
    else:
        before = None
        notes.append(_new_head(labelled, outputs))
    layers = _sites(model, request, head)
    block = "" if request.layers or not layers or layers[0].alias else layers[0].name
    if block:
        notes.append(f"it works on {block}, the last block whose maps are rectified")
    plans = _plans(request, layers)
    if numbers is None:
        plans.append(Plan(head=head, classes=len(classes)))
    with torch.random.fork_rng([]):  # a new module draws weights before it is given its own
        for plan in plans:
            operate(model.net, plan, s.seed)
    # channels last: a third quicker on a CPU
    model.net.eval().to(model.device).to(memory_format=torch.channels_last)
    factors = {}
    for plan in plans:
        if plan.insert and s.start == "scaled":
            x = unmirrored(examples, training[:: -(-len(training) // _SAMPLE)])
            conv = f"{plan.at}.conv"
            factors[conv] = start_inserted(model.net, conv, head, x, s.seed)
    frequency = _frequencies(examples.labels[training], len(classes))
    method = _method(model, request, plans, frequency)
    new = [name for plan in plans for name in plan.fresh]
    if not new and s.trunk == 0:
        raise UsageError("nothing is left to train", "no layer is new: choose --trunk above 0")
    rates = Rates(None if s.trunk == 1 else new, factors)
    trainer = Trainer(model.net, examples, training, validation, method, s, rates, link, returned)
    return Prepared(model, trainer, request, plans, classes, before, notes, copies, block)


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
    _sites(model, request, head_of(model)[0])
    returned_in_training(model, ending(model).link)
    if request.method == "cgl":
        grouped_layers(model, request.layers, request.cgl.groups)


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


def _fitting(
    model: Model, labelled: Labelled, outputs: int
) -> tuple[list[str], Mapping[str, int] | None]:
    """Names of the outputs after training, and each label's among them.

    None where the network's own head does not serve; the labels are then the outputs.
    """
    names, known = labelled.classes, model.classes
    if known is None and len(names) == outputs == 1:
        return names, {names[0]: 0}
    if outputs > 1 and _is_alone(labelled):
        return names, None
    ways = readings(names, known, outputs)
    if ways and ways[0].certain and known is not None and len(known) == outputs:
        return list(known), ways[0].outputs
    if not ways or len(names) != outputs or not (known is None or model.has_assumed_classes):
        return names, None
    if not model.has_random_weights:
        _check_order(model, labelled, ways)
    numbers = ways[0].outputs
    return sorted(names, key=lambda name: numbers[name]), numbers


def _new_head(labelled: Labelled, outputs: int) -> str:
    if outputs > 1 and _is_alone(labelled):
        return f"{labelled.classes[0]} is told from all else: a new head of one output"
    are = "is" if outputs == 1 else "are"
    return f"the model's {counted(outputs, 'output')} {are} not the data's classes: a new head"


def _is_alone(labelled: Labelled) -> bool:
    """Whether images of other categories are negatives: outputs of theirs would learn to deny them.

    A folder of negatives shows none of the categories.
    """
    if labelled.positions is None:
        return False
    return bool((labelled.labels[torch.from_numpy(labelled.positions >= 0)] < 0).any())


@torch.no_grad()
def _check_order(model: Model, labelled: Labelled, ways: Sequence[Reading]) -> None:
    """Ask some of the images which of two orders it is, or whether it is none."""
    shown = [labelled.classes[label] if label >= 0 else "" for label in labelled.labels.tolist()]
    rows = [row for row in chosen(shown) if shown[row]]
    examples = replace(labelled, device=model.device)
    parts = torch.tensor(rows).split(_SAMPLE)
    logits = torch.cat([model.net(unmirrored(examples, part)).float().cpu() for part in parts])
    scores = before_link(logits.numpy(), link_of(model, logits.numpy()))
    check_order(ways, scores, [shown[row] for row in rows], "the data")


def _renumbered(labelled: Labelled, numbers: Mapping[str, int]) -> Tensor:
    """Labels as numbers of outputs; -1 stays."""
    return torch.tensor([*(numbers[name] for name in labelled.classes), -1])[labelled.labels]


def _frequencies(labels: Tensor, classes: int) -> Tensor:
    return torch.bincount(labels[labels >= 0], minlength=classes).float() / len(labels)


def _sites(model: Model, request: Request, head: str) -> list[Layer]:
    """Layers whose maps are masked, and behind the last of which a convolution is inserted."""
    if not (request.masks or request.insert):
        if request.method == "none" and request.layers:
            raise UsageError(
                "--method none trains all layers alike: -l says nothing",
                "leave it out, or add --insert",
            )
        return []
    names = request.layers if request.method != "cgl" else request.layers[-1:]
    known = RectifiedLayers(model)
    layers = [known.named(name) for name in names] or [known.last(head)]
    for layer in layers:
        if within(head, layer.place.path) or _behind(model, layer.alias, head):
            raise UsageError(
                f"layer '{layer.name}' is the classifier itself",
                f"choose one below it, such as {known.last(head).name}",
            )
    _check_apart(layers)
    return layers


def _check_apart(layers: Sequence[Layer]) -> None:
    """See that no layer lies within another, whose module is about to be wrapped in a new one."""
    for outer in layers:
        for inner in layers:
            paths = inner.place.path, outer.place.path
            if paths[0] != paths[1] and within(*paths):
                raise UsageError(
                    f"layer '{inner.name}' is a part of layer '{outer.name}'",
                    "name one of them",
                )


def _plans(request: Request, layers: Sequence[Layer]) -> list[Plan]:
    found = {layer.place.path: layer for layer in layers}
    plans = [
        Plan(
            path, layer.shape[0], insert=request.insert and path == list(found)[-1],
            mask=request.masks,
            position=request.icnn.position, beta=request.icnn.beta,
            learn_beta=request.icnn.learn_beta,
        )
        for path, layer in found.items()
    ]  # fmt: skip
    return [plan for plan in plans if plan.insert or plan.mask]


def _behind(model: Model, alias: str | None, head: str) -> bool:
    return any(c.alias == alias and c.path == head for c in find_convolutions(model))


def _method(model: Model, request: Request, plans: list[Plan], frequency: Tensor) -> Method:
    maps = [(name, plan.units) for plan in plans for name in plan.maps]
    record = {"layers": [name for name, _ in maps], "inserted": request.insert}
    if request.method == "icnn":
        return Icnn([n for n, _ in maps], [u for _, u in maps], frequency, request.icnn, record)
    if request.method == "cgl":
        layers = grouped_layers(model, request.layers, request.cgl.groups)
        return Grouped(ConceptGroups(layers, request.cgl, request.settings.seed))
    return Plain(record)


def probe(model: Model, *_: object) -> list[str]:
    """See that a network can be trained; say whether its head is replaced."""
    with model.in_use():
        check(model, Request())
    named = model.classes and not model.has_assumed_classes
    return [] if named else ["a new head, unless the class folders fit the outputs"]
