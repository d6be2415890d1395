"""The last stations of the demo: an ordinary and an interpretable network, side by side."""

from __future__ import annotations

from cnnlens.cli.options import command_line
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions, open_model
from cnnlens.cli.stations import Tour, one_thread
from cnnlens.methods import carry_out
from cnnlens.settings import CompareSettings, StabilitySettings
from cnnlens.settings.finetune import FinetuneSettings

_ARCH, _AT = "zoo:animal_net", "relu4"  # where a convolution is inserted, and looked at
_IMAGES = 900
_NETWORKS = ("ordinary", "interpretable")


@one_thread()
def finetune(tour: Tour) -> None:
    """Train one network on animals, then on from it: with ICNN, and the same way without."""
    from cnnlens.data.animals import make_animals

    data = tour.out / "animals"
    if tour.force or not data.is_dir():
        with tour.screen.progress() as bars:
            make_animals(
                data,
                _IMAGES,
                seed=tour.seed,
                progress=lambda done, total: bars.show("drawing animals", done, total),
                force=tour.force,
            )
    start = FinetuneSettings(epochs=10, lr=3e-3, trunk=1.0, seed=tour.seed)
    _train(tour, _ARCH, "animals", "none", False, start)
    for name, method in zip(_NETWORKS, ("none", "icnn"), strict=True):
        settings = FinetuneSettings(epochs=6, seed=tour.seed)
        _train(tour, str(tour.out / "animals.pt"), name, method, True, settings)


def _train(
    tour: Tour, model: str, name: str, method: str, insert: bool, settings: FinetuneSettings
) -> None:
    from cnnlens.cli.finetuning import carry_out
    from cnnlens.data.labelled import read_labelled
    from cnnlens.data.open import open_data
    from cnnlens.interpretable.finetune import finetune

    out = tour.out / f"{name}.pt"
    if out.exists() and not tour.force:
        return
    images = open_data(tour.out / "animals")
    quiet = Screen(quiet=True)  # three openings of nearly one network say nothing
    opened, _ = open_model(ModelOptions(model), None, quiet)
    labelled = read_labelled(images, opened.preprocess)
    layers = (_AT,) if insert else ()
    run = finetune(opened, labelled, method, layers, insert=insert, settings=settings)
    found = carry_out(run, out, tour.screen, first=True, force=tour.force)
    tour.screen.note(f"{name}: {found['accuracy']['after']:.1%} of its answers are right")


@one_thread()
def stability(tour: Tour) -> None:
    """Measure whether the units of both follow the animals' parts."""
    from cnnlens.methods.stability import Stability, StabilityInputs
    from cnnlens.report.page import write_report

    data = tour.out / "animals"
    asked = StabilityInputs(data=data, layer=(_AT,), negatives=data / "negatives")
    settings = StabilitySettings(top=6, seed=tour.seed)
    for name in _NETWORKS:
        carry_out(Stability(tour.study(name), asked, settings), command_line())
        write_report(tour.out / name)


def compare(tour: Tour) -> None:
    """Put both side by side on the demo's page."""
    from cnnlens.methods.compare import Compare, CompareInputs
    from cnnlens.report.side_by_side import FOLDER

    first, other = _NETWORKS
    asked = CompareInputs(others=(tour.out / other,), out=tour.out / "trained" / FOLDER)
    carry_out(Compare(tour.study(first), asked, CompareSettings(top=6), page=False))
