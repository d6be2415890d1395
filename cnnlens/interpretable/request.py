"""What is asked of a training: the method, where, and its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cnnlens.errors import UsageError
from cnnlens.settings.finetune import CglSettings, FinetuneSettings, IcnnSettings, TaskSettings


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    method: str = "none"  #: "none", "icnn" or "cgl"
    #: where; none means the last convolution or its block (icnn, insert), or all but the head (cgl)
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
