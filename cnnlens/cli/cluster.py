"""``cnnlens cluster``: how a layer organizes what it knows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.cluster_categories import categories
from cnnlens.cli.cluster_embed import embed
from cnnlens.cli.cluster_filters import filters
from cnnlens.cli.clustering import opened_job
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions, command_line, find_layers, open_images, open_model
from cnnlens.errors import UsageError, did_you_mean
from cnnlens.settings import ClusterSettings, RunSettings
from cnnlens.study.workspace import Workspace

C = ClusterSettings()
RuleOption = Annotated[
    str,
    typer.Option(
        metavar="argmin|largest-change",
        help="Which filter is critical at a merge: of the smallest masked cosine (the paper's "
        "pseudocode), or of the one changed most (its text).",
    ),
]

# each finds one thing about a layer, writes it, and returns its summary
STATIONS = {"categories": categories, "filters": filters, "embed": embed}


def cluster(
    model: o.ModelArgument = None,
    data: o.DataOption = None,
    layer: o.LayersOption = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="|".join(STATIONS), help="Make only one of them.", show_default=False),
    ] = None,
    noise: Annotated[
        bool, typer.Option("--noise", help="Add random images as one more category.")
    ] = C.noise,
    bootstrap: Annotated[
        int,
        typer.Option(
            metavar="N", help="Trees from resampled images, for each merge's support; 0 for none."
        ),
    ] = C.bootstrap,
    rule: RuleOption = C.rule,
    neighbours: Annotated[
        int, typer.Option(metavar="N", help="Neighbours of an image in the embedding.")
    ] = C.neighbours,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write the page.")] = True,
    workspace: o.WorkspaceOption = None,
    arch: o.ArchOption = None,
    allow_pickle: o.PickleOption = False,
    image_size: o.ImageSizeOption = None,
    mean: o.MeanOption = None,
    std: o.StdOption = None,
    device: o.DeviceOption = o.RUN.device,
    batch_size: o.BatchSizeOption = o.RUN.batch_size,
    workers: o.WorkersOption = o.RUN.workers,
    seed: o.SeedOption = o.RUN.seed,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    force: o.ForceOption = False,
) -> None:
    """Trees of categories and filters, and an embedding.

    Which categories does a layer hold close, in which order do its filters decide on one, how do
    the images lie? Needs class folders; the model runs only where a layer has no store yet.
    """
    if only is not None and only not in STATIONS:
        known = ", ".join(STATIONS)
        raise UsageError(
            f"--only {only} is not known", did_you_mean(only, STATIONS) or f"choose {known}"
        )
    settings = ClusterSettings(bootstrap, noise, rule, neighbours, seed)
    screen, space = Screen(json=json, quiet=quiet), Workspace(workspace, force)
    run = RunSettings(device, batch_size, workers, seed)
    options = ModelOptions(model, arch, allow_pickle, image_size, mean, std, device)
    work = Work(screen, space, options, settings, run, force)
    summaries = work.run(data, layer, [only] if only else list(STATIONS))
    if page:
        from cnnlens.report.page import write_report

        write_report(space.path)
    one = next(iter(summaries.values()))
    screen.document(one if len(summaries) == 1 else {"layers": summaries})
    _show(screen, space, summaries, page)


class Work:
    """One run of cluster, from what was named to the files in the workspace."""

    def __init__(
        self,
        screen: Screen,
        space: Workspace,
        options: ModelOptions,
        settings: ClusterSettings,
        run_settings: RunSettings,
        force: bool = False,
    ) -> None:
        self.screen, self.space, self.options = screen, space, options
        self.settings, self.run_settings, self.force = settings, run_settings, force

    def run(
        self, data: Path | None, names: list[str] | None, stations: list[str]
    ) -> dict[str, dict[str, Any]]:
        """Run the stations on every layer; return every layer's summary."""
        from cnnlens.cli.clustering import summary

        kinds: tuple[str, ...] = ("classes", "parts")
        if stations == ["embed"]:
            kinds = (*kinds, "images", "broden")
        model, given = open_model(self.options, self.space, self.screen)
        images = open_images(data, self.space, kinds)
        layers = find_layers(model, names, self.space)
        self.space.use_model(model, given, self.force)
        self.space.use_data(images, named=data is not None)
        layers = [self.space.use_layer(one) for one in layers]
        self.space.save()
        found = {}
        for layer in layers:
            with opened_job(
                self.screen, self.space, model, images, layer, self.settings, self.run_settings,
                self.force,
            ) as job:  # fmt: skip
                for station in stations:
                    STATIONS[station](job)
                found[layer.name] = summary(job)
        self.space.save(command_line())
        return found


def _show(
    screen: Screen, space: Workspace, summaries: dict[str, dict[str, Any]], page: bool
) -> None:
    rows = [
        (
            name,
            found["categories"],
            found["images"],
            " + ".join(found["first_merge"]),
            found["first_support"],
            found["centre"],
            found["cophenetic"],
        )
        for name, summary in summaries.items()
        if (found := summary.get("categories"))
    ]
    if rows:
        columns = ["layer", "categories", "images", "first to merge", "support", "centre"]
        screen.table([*columns, "cophenetic r"], rows, title="categories")
    screen.say(f"trees: {space.path / 'cluster'}")
    if page:
        screen.say(f"page:  {space.path / 'report.html'}")
