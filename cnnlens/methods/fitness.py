"""What a network allows: every command tried on it, on one image of noise.

    tried("cam", study)     # Fitness("cam", "not defined", "vgg16 has no class activation maps: …")

A table would say what is usual; here the same functions answer that the commands call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError

if TYPE_CHECKING:
    from cnnlens.model.layers import Layer
    from cnnlens.model.model import Model
    from cnnlens.study.session import Study

WORKS, ASSUMES, UNDEFINED = "works", "works with an assumption", "not defined"
Remarks = list[str]  # what a command assumes


@dataclass(frozen=True)
class Fitness:
    """What became of a command.

    Attributes
    ----------
    command : str
        As one types it.
    status : str
        `WORKS`, `ASSUMES` or `UNDEFINED`.
    why : str
        What is assumed, or why it is not defined.
    """

    command: str
    status: str
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain strings, for JSON."""
        return asdict(self)


# ---- probes: each returns what is assumed, and raises where the command is not defined


def _last(study: Study) -> Layer:
    return study.addresses.resolve("last")


def _reads(study: Study) -> Remarks:
    """The activations of the last layer on an image of noise."""
    import numpy as np

    from cnnlens.activations.sources import Forward

    layer = _last(study)
    (maps,), _ = Forward(study.model, [layer], logits=False, limit=1)(_noise(study.model))
    if not np.isfinite(maps).all():
        raise CnnlensError(f"{layer.name} is not finite on noise", "check the weights")
    return [f"maps of {layer.name} are 1×1, without places"] if maps.shape[2:] == (1, 1) else []


def _noise(model: Model) -> Any:
    import torch

    size = (1, model.preprocess.channels, *model.preprocess.size)
    return torch.randint(0, 256, size, generator=torch.Generator().manual_seed(0)).byte()


def _climbs(study: Study) -> Remarks:
    """The gradient of a unit at the image."""
    _project(study, "gradient")
    return []


def _deconv(study: Study) -> Remarks:
    from cnnlens.attribution.deconv import check_projects

    check_projects(_last(study))
    unruled = _project(study, "deconvnet")
    return [f"no rule but the gradient for {', '.join(unruled)}"] if unruled else []


def _project(study: Study, method: str) -> list[str]:
    """Project a unit of the last layer back; return the nonlinearities that have no rule."""
    from cnnlens.attribution.deconv import Projector

    model, layer = study.model, _last(study)
    with model.in_use():
        projector = Projector(model.net, model.example(), layer.place)
        projected = projector.project([0], method=method)
    if not bool(projected.isfinite().all()):
        raise CnnlensError(f"the projection of {layer.name} is not finite", "check the weights")
    return list(projector.undefined)


def _cam(study: Study, method: str) -> Remarks:
    from cnnlens.attribution.cam import ClassMaps

    with study.model.in_use():
        ClassMaps(study.model, method)
    return _names(study)


def _logit(study: Study) -> Remarks:
    _scores(study)
    return [*_climbs(study), *_names(study)]


def _scores(study: Study) -> None:
    from cnnlens.model.classes import count_scores

    if not count_scores(study.model):
        raise CnnlensError("the network returns no class scores", "its layers can be read")


def _names(study: Study) -> Remarks:
    model = study.model
    if model.has_assumed_classes:
        return [f"names of classes are {model.classes_source}"]
    return [] if model.classes else ["classes have no names, only numbers (--classes FILE)"]


def _explain(study: Study) -> Remarks:
    from cnnlens.cluster.explain import predictor

    with study.model.in_use():
        predictor(study.model, [], None)
    if study.model.classes is None:
        reads = _reads(study)
        return [*reads, "class folders are read in alphabetical order, where images bear it out"]
    return [*_reads(study), *_names(study)]


def _outliers(study: Study) -> Remarks:
    _scores(study)
    return [*_reads(study), *_names(study)]


def _finetune(study: Study) -> Remarks:
    from cnnlens.interpretable.prepare import Request, check

    with study.model.in_use():
        check(study.model, Request())
    named = study.model.classes and not study.model.has_assumed_classes
    return [] if named else ["a new head, unless the class folders fit the outputs"]


def _style(study: Study) -> Remarks:
    from cnnlens.synthesize.style import content_and_style_layers

    layers = study.addresses
    chosen = content_and_style_layers(layers, study.model.arch)[2]
    return [*_climbs(study), *([chosen] if "evenly" in chosen else [])]


#: by command, and by the option that makes another of it
PROBES: dict[str, Callable[[Study], Remarks]] = {
    "extract": _reads,
    "units": _reads,
    "dissect": _reads,
    "stability": _reads,
    "visualize": _climbs,
    "visualize --logit": _logit,
    "deconv": _deconv,
    "cam": lambda study: _cam(study, "cam"),
    "cam --method gradcam": lambda study: _cam(study, "gradcam"),
    "invert": _climbs,
    "style": _style,
    "cluster": _reads,
    "explain": _explain,
    "outliers": _outliers,
    "finetune": _finetune,
}


def tried(command: str, study: Study) -> Fitness:
    """Try a command on a study's network.

    Parameters
    ----------
    command : str
        One of `PROBES`; of another it is known only that layers can be read.
    study : Study
        Whose network, which is opened.
    """
    try:
        remarks = PROBES.get(command, _reads)(study)
    except CnnlensError as error:
        return Fitness(command, UNDEFINED, error.message)
    except Exception as error:  # whatever a strange network raises is what one wants to hear of
        first = (str(error).strip().splitlines() or [""])[0]
        return Fitness(command, UNDEFINED, f"{type(error).__name__}: {first}")
    remarks = [*remarks, *_of_all(study.model)]
    return Fitness(command, ASSUMES if remarks else WORKS, "; ".join(remarks))


def _of_all(model: Model) -> Iterator[str]:
    """What every command assumes of a network."""
    if model.preprocess.source == "assumed":
        yield "preprocessing is assumed"
    if model.has_random_weights:
        yield "weights are random"


def commands(names: list[str]) -> list[str]:
    """List what is tried of some commands: each, and after it what an option makes of it."""
    return [c for name in names for c in (name, *(p for p in PROBES if p.startswith(f"{name} ")))]
