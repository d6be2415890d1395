"""Training a generator: from the answers of a deep layer back to photos, with three losses.

    image          mean (G(h) − x)²  over the variance of photos
    feature        mean (Φ(G(h)) − Φ(x))²  over the variance of Φ, the answers of a shallower layer
    adversarial    mean log(1 + exp(−D(G(h), h)))

The critic D, which learns along to tell photos from made images, sees the code, too: an image has
to look like a photo that has it. It rests while it is far ahead. Each loss has a weight; 0 leaves
it out. The feature loss is by far the dearest: a part of each batch pays it.

References
----------
Dosovitskiy and Brox: Generating Images with Perceptual Similarity Metrics based on Deep Networks.
NeurIPS 2016.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.hooks import read
from cnnlens.model.layer import Layer
from cnnlens.model.layers import Layers
from cnnlens.model.model import Model
from cnnlens.model.streams import look_every, sent
from cnnlens.progress import Step, Words
from cnnlens.settings.generator import GeneratorSettings
from cnnlens.settings.invert import UpconvSettings
from cnnlens.synthesize.critic import Critic
from cnnlens.synthesize.examples import Examples
from cnnlens.synthesize.generator import Range
from cnnlens.synthesize.neighbours import Photos
from cnnlens.synthesize.training import seconds_per_image
from cnnlens.synthesize.upconv import UpconvNet

WIDTH = 64  # of the generator, see `UpconvNet`
_TIMED = 8  # images that the time is measured on
_PAYING = 4  # one of so many images of a batch pays the feature loss
_RESTS = 0.2  # the critic's loss below which it does not learn: at chance it is 1.39
_AVERAGED = 0.99  # of the averaged weights, what stays after a step
_MOMENTS = (0.5, 0.99)  # Adam's
_CHECKS = 20  # how often in a training the images held out are looked at


def squared(made: Tensor, wanted: Tensor, spread: Tensor) -> Tensor:
    """Mean squared difference over a variance: 1 for what the mean would give."""
    return (made - wanted).square().mean() / spread


def taken_for_photos(scores: Tensor) -> Tensor:
    """How far made images (N,) are from being taken for photos."""
    return F.softplus(-scores).mean()


def told_apart(photos: Tensor, made: Tensor) -> Tensor:
    """How badly photos and made images, (N,) scores each, are told apart."""
    return F.softplus(-photos).mean() + F.softplus(made).mean()


@dataclass(frozen=True, kw_only=True)
class LearningStep(Step):
    """Where the training stands.

    `terms` are the losses, and the errors on images held out: numbers on the device, for whoever
    reads them waits.
    """

    terms: Mapping[str, Tensor]


def _worded(terms: Mapping[str, Tensor]) -> Words:
    """Word losses and errors when they are shown."""
    return Words(lambda: ", ".join(f"{name} {float(value):.3f}" for name, value in terms.items()))


def _check(losses: Sequence[Mapping[str, Tensor]], step: int) -> None:
    """Raise CnnlensError where a loss of the steps that end with `step` is not finite."""
    finite = torch.stack([torch.stack([*one.values()]).isfinite().all() for one in losses])
    if bool(finite.all()):
        return
    first = step - len(losses) + 1 + finite.tolist().index(False)
    raise CnnlensError(
        f"the generator's training diverged in step {first}", "try a smaller --learn-rate"
    )


class Training:
    """A training in steps, which can stop and go on anywhere.

    Parameters
    ----------
    model : Model
        The network.
    comparator : Layer
        Φ.
    examples : Examples
        Photos and their codes, after `read`.
    learned, held_out : torch.Tensor
        Which of them to learn from, and which to measure on.
    settings : GeneratorSettings
        Weights, steps.

    Attributes
    ----------
    net : UpconvNet
        The generator that learns.
    averaged : UpconvNet
        Its weights, averaged over the last steps: what is used in the end.
    examples : Examples
        As given.
    is_whole : bool
        Whether its state is that of a step's end. An exception may come amid a step, when the
        critic has learned the batch and the generator has not: nobody can go on from there.
    """

    def __init__(
        self, model: Model, comparator: Layer, examples: Examples, learned: Tensor,
        held_out: Tensor, settings: GeneratorSettings,
    ) -> None:  # fmt: skip
        self._model, self._comparator, self.examples = model, comparator, examples
        self._learned, self._held_out = learned, held_out
        self._settings, self.step, self._rests = settings, 0, False
        self.is_whole = True
        seed = settings.learn_seed
        image, code = examples.shape, examples.layer.shape
        self.net, self.averaged = (UpconvNet(code, image, WIDTH, seed) for _ in range(2))
        self.net.standardize(examples.mean, examples.deviation, examples.floor)
        self.averaged.load_state_dict(self.net.state_dict())
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.critic = Critic(image, code[0])
        for module in (self.net, self.averaged, self.critic):
            module.to(model.device)
        self._spread = self._spreads()
        rate = settings.learn_rate
        self._optimizers = [
            torch.optim.Adam(module.parameters(), rate * share, _MOMENTS)
            for module, share in ((self.net, 1.0), (self.critic, 0.5))
        ]

    def _spreads(self) -> dict[str, Tensor]:
        """Variances of photos and of their features, of at most 256."""
        photos = self._photos(self._learned[:: -(-len(self._learned) // 256)])
        found = {"image": photos, "feature": self._features(photos)}
        return {k: (v - v.mean(0)).square().mean().clamp_min(1e-8) for k, v in found.items()}

    def _photos(self, places: Tensor) -> Tensor:
        return sent(self.examples.images(places), self._model.device)

    def _codes(self, places: Tensor) -> Tensor:
        return sent(self.examples.features(places), self._model.device)

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        return self._answers(images)

    def _answers(self, images: Tensor) -> Tensor:
        x = self._model.preprocess.normalize(images)
        (found,) = read(self._model.net, x, [self._comparator.place], gradient=images.requires_grad)
        return found.float()

    def run(self) -> Iterator[LearningStep]:
        """Go on to the end, step by step.

        Raises
        ------
        CnnlensError
            When a loss is no longer finite.
        """
        total = self._settings.learn_steps
        every = max(1, total // _CHECKS)
        look, unseen = look_every(self._model.device), []
        errors: dict[str, Tensor] = {}
        while self.step < total:
            terms = self._learn(self._batch(self.step))
            self.step, self.is_whole = self.step + 1, True
            unseen.append(terms)
            if self.step % look == 0 or self.step == total:
                _check(unseen, self.step)
                unseen.clear()
            if self.step % every == 0 or self.step == total:
                errors = self._measured()
            yield LearningStep(
                self.step, total, "the generator learns", note=_worded(terms | errors),
                unit="steps", terms=terms | errors,
            )  # fmt: skip

    def _batch(self, step: int) -> Tensor:
        """Places of a step's images; in every round each image comes once, in another order."""
        learned, size = self._learned, self._settings.learn_batch
        numbers = torch.arange(step * size, (step + 1) * size)
        rounds = numbers // len(learned)
        found = []
        for one in rounds.unique().tolist():
            order = torch.Generator().manual_seed(self._settings.learn_seed * 100_003 + one)
            places = learned[torch.randperm(len(learned), generator=order)]
            found.append(places[numbers[rounds == one] % len(learned)])
        return torch.cat(found)

    def _learn(self, places: Tensor) -> dict[str, Tensor]:
        s, device = self._settings, self._model.device
        photos, codes = self._photos(places), self._codes(places)
        with torch.autocast(device.type, torch.bfloat16, enabled=s.amp and device.type == "cuda"):
            made = self.net(codes).float()
            terms = {}
            if s.image_loss:
                terms["image"] = squared(made, photos, self._spread["image"])
            if s.feature_loss:
                some = slice(0, -(-len(places) // _PAYING))
                wanted = self._features(photos[some])
                terms["feature"] = squared(
                    self._answers(made[some]), wanted, self._spread["feature"]
                )
            if s.adversarial_loss:
                given = (codes - self.net.shift) / self.net.scale
                critic = self._criticize(photos, made.detach(), given)
                self.critic.requires_grad_(False)
                terms["adversarial"] = taken_for_photos(self.critic(made, given).float())
                self.critic.requires_grad_(True)
        loss = sum(getattr(s, f"{name}_loss") * term for name, term in terms.items())
        assert isinstance(loss, Tensor)
        found = {name: term.detach() for name, term in terms.items()}
        if s.adversarial_loss:
            found["critic"] = critic
        self._optimizers[0].zero_grad()
        loss.backward()
        self._move(0)
        self._average()
        return found

    def _criticize(self, photos: Tensor, made: Tensor, given: Tensor) -> Tensor:
        """Let the critic learn from a batch, unless it is far ahead; return its loss.

        Whether it is, is looked at every few steps where looking means waiting.
        """
        loss = told_apart(self.critic(photos, given).float(), self.critic(made, given).float())
        if self.step % look_every(loss.device) == 0:
            self._rests = not bool(loss > _RESTS)
        if not self._rests:
            self._optimizers[1].zero_grad()
            loss.backward()
            self._move(1)
        return loss.detach()

    def _move(self, which: int) -> None:
        self.is_whole = False
        self._optimizers[which].step()

    @torch.no_grad()
    def _average(self) -> None:
        stays = min(_AVERAGED, self.step / (self.step + 10))
        for mean, now in zip(self.averaged.parameters(), self.net.parameters(), strict=True):
            mean.lerp_(now, 1 - stays)

    def errors(self) -> dict[str, float]:
        """Errors of the averaged generator on images held out: of at most 256."""
        return {name: float(value) for name, value in self._measured().items()}

    @torch.no_grad()
    def _measured(self) -> dict[str, Tensor]:
        image, feature = [], []
        for some in self._held_out[:256].split(self._settings.learn_batch):
            photos = self._photos(some)
            made = self.averaged(self._codes(some)).clamp(0, 1)
            image.append((made - photos).square().flatten(1).mean(1))
            difference = (self._features(made) - self._features(photos)).square()
            feature.append(difference.flatten(1).mean(1) / self._spread["feature"])
        rmse = torch.cat(image).sqrt().mean()
        return {"pixel RMSE": rmse, "feature error": torch.cat(feature).mean()}

    @property
    def codes(self) -> Range:
        """What codes are on the photos that are learned from."""
        return Range.of(self.examples, self._learned)

    def photos(self, names: Sequence[str]) -> Photos:
        """Keep these photos, of those names, to compare images with."""
        return Photos.of(names, self.examples, self._learned)

    def state_dict(self) -> dict[str, Any]:
        """Return what an equal training needs to go on from here."""
        return {
            "step": self.step,
            "rests": self._rests,
            "net": self.net.state_dict(),
            "averaged": self.averaged.state_dict(),
            "critic": self.critic.state_dict(),
            "optimizers": [one.state_dict() for one in self._optimizers],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.net.load_state_dict(state["net"])
        self.averaged.load_state_dict(state["averaged"])
        self.critic.load_state_dict(state["critic"])
        for optimizer, known in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(known)
        self.step, self._rests = int(state["step"]), bool(state.get("rests", False))


def comparator_layer(layers: Layers, code: Layer) -> Layer:
    """Choose whose features are compared: the deepest layer before the code with maps, larger ones
    where there are some.

    A code says less of where things are: answers of much shallower layers cannot be told from it.
    """
    side = max(code.shape[1:])
    maps = [one for one in layers if one.depth < code.depth and one.shape[1:] != (1, 1)]
    if not maps:
        raise UsageError(
            f"no layer with maps lies before {code.name}", "name one with --comparator LAYER"
        )
    maps = [one for one in maps if max(one.shape[1:]) > side] or maps
    return maps[-1]


def seconds_per_step(
    model: Model, code: Layer, comparator: Layer, settings: GeneratorSettings
) -> float:
    """About how long a step takes; measured on a few images of noise."""
    x = torch.rand(_TIMED, model.preprocess.channels, *model.preprocess.size, device=model.device)
    compared = 0.0
    with model.in_use():
        for _ in range(2):  # the first does more than it will
            begun = time.perf_counter()
            x = x.detach().requires_grad_()
            (found,) = read(model.net, x, [comparator.place], gradient=True)
            found.sum().backward()
            compared = (time.perf_counter() - begun) / _TIMED
    drawn = seconds_per_image(model, code, UpconvSettings(width=WIDTH))
    # the critic costs about what the generator does; photos are compared without gradients
    return settings.learn_batch * (2 * drawn + 1.5 * compared / _PAYING)
