"""Generators of images: which one, what its codes are, and how one learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnnlens.errors import UsageError
from cnnlens.settings.base import Settings
from cnnlens.settings.option import option

_PANEL = "Generator"


@dataclass(frozen=True)
class GeneratorSettings(Settings):
    """A generator, and its training (see `cnnlens.synthesize.generator_training` for the losses).

    Attributes
    ----------
    generator : str or None
        A file that cnnlens has kept, or ``file.py:factory``; None: one learns, or has learned.
    generator_range : str or None
        What black and white are in a foreign one's images: ``-1,1``; None: guessed from them.
    code : str or None
        The layer whose answers are its codes; None: see `code_layer`.
    comparator : str or None
        The layer whose answers the feature loss compares; None: the deepest one with larger maps
        before the code.
    image_loss, feature_loss, adversarial_loss : float
        Weights; 0 leaves a loss out.
    learn_steps, learn_batch : int
        Steps of the training, and images in each.
    learn_rate : float
        Adam's.
    learn_seed : int
        Of first weights, of the order, and of what is held out.
    amp : bool
        Whether a GPU trains in mixed precision.
    """

    generator: str | None = option(
        None,
        "A generator.pt of another workspace, or a factory of an nn.Module from codes to images.",
        metavar="FILE|file.py:factory",
        shown="the workspace's, which learns on -d DIR first",
        panel=_PANEL,
    )
    generator_range: str | None = option(
        None,
        "Black and white in a foreign generator's images: -1,1.",
        metavar="LOW,HIGH",
        shown="guessed from its images",
        panel=_PANEL,
    )
    code: str | None = option(
        None,
        "Whose answers are its codes.",
        metavar="LAYER",
        shown="the deepest layer before the classes, and before its pooling",
        panel=_PANEL,
    )
    comparator: str | None = option(
        None,
        "Whose answers the feature loss compares.",
        metavar="LAYER",
        shown="the deepest layer before the code with larger maps",
        panel=_PANEL,
    )
    image_loss: float = option(1.0, "Weight of the image loss.", least=0, panel=_PANEL)
    feature_loss: float = option(0.3, "Weight of the feature loss.", least=0, panel=_PANEL)
    adversarial_loss: float = option(0.1, "Weight of the adversarial loss.", least=0, panel=_PANEL)
    learn_steps: int = option(1000, "Steps of its training.", least=1, panel=_PANEL)
    learn_batch: int = option(64, "Images in each.", least=2, panel=_PANEL)
    learn_rate: float = option(0.001, "Adam's rate.", above=0, panel=_PANEL)
    learn_seed: int = option(0, "Seed of its weights and of the order.", least=0, panel=_PANEL)
    amp: bool = option(True, "Train in mixed precision on a GPU.", panel=_PANEL)

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.between
        if not self.image_loss and not self.feature_loss:
            raise UsageError(
                "a generator cannot learn without --image-loss and --feature-loss",
                "one of them has to be above 0: the adversarial loss alone knows no codes",
            )

    @property
    def training(self) -> dict[str, Any]:
        """What a generator's weights depend on."""
        chosen = ("generator", "generator_range", "code", "comparator")
        return {name: value for name, value in self.as_dict().items() if name not in chosen}

    @property
    def between(self) -> tuple[float, float] | None:
        """What black and white are, where that was said."""
        if self.generator_range is None:
            return None
        try:
            low, high = (float(part) for part in self.generator_range.split(","))
        except ValueError:
            low = high = 0.0
        if not low < high:
            raise UsageError(
                f"--generator-range {self.generator_range} is no range",
                "two numbers, black and white: 0,1 or -1,1",
            )
        return low, high
