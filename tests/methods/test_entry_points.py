"""A method of another package: a command, a method of `Investigation`, a section of the page."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cnnlens import find_layers, make_shapes, open_data, open_model, save_checkpoint
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.zoo import ZOO
from tests import bare

HERE = Path(__file__).parents[2]

METHOD = '''
from cnnlens.methods import Method
from cnnlens.report.blocks import Section, Text


def section(workspace):
    return Section("names", "Names", "", [Text("three layers")])


class Names(Method):
    """Names of layers, as somebody else's paper wants them."""

    name, sections, examples = "names", (("names", section),), ("cnnlens names model.pt",)

    def work(self):
        self.summaries = {"names": [layer.name for layer in self.study.layers(["conv1", "last"])]}
        yield from ()
'''


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A folder on the path with an installed package: its module and its metadata."""
    site = tmp_path / "site"
    metadata = site / "their_paper-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "their_paper.py").write_text(METHOD)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-paper\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[cnnlens.methods]\nnames = their_paper:Names\n")
    return {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{site}", "NO_COLOR": "1"}


def run(
    environment: dict[str, str], *words: object, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        env=environment, capture_output=True, text=True, timeout=240, cwd=folder,
    )  # fmt: skip


def test_it_is_a_command_in_python_and_on_the_page(environment, tmp_path):
    ws, py = tmp_path / "ws", tmp_path / "py"
    words = ["names", "zoo:demo_net", "-w", str(ws), "--json"]
    script = (
        f"import sys; sys.path.append({str(tmp_path / 'site')!r})\n"
        "import cnnlens\n"
        f"lens = cnnlens.Investigation('zoo:demo_net', {str(py)!r}, quiet=True)\n"
        "assert 'names' in dir(lens)\n"
        "print(lens.names(), file=sys.stderr)\n"
        "from cnnlens.__main__ import main\n"
        f"sys.argv[1:] = {words!r}\n"
        "main()\n"
    )
    done = bare.run(script, NO_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert "conv1" in done.stderr and '"conv1"' in done.stdout
    assert "Names" in (ws / "report.html").read_text()
    assert "three layers" in (ws / "report.html").read_text()
    assert "names" in run(environment, "-m", "cnnlens", "--help").stdout


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("names =", "cam =", "'cam', which is taken"),
        ("names =", "report =", "'report', which is taken"),
        ("names =", "join =", "'join', which is taken"),
        ("names =", "workspace =", "'workspace', which is taken"),
        ("names =", "../names =", "'../names', which is no name of a command"),
        ("names =", "import =", "'import', which is no name of a command"),
        ("names =", "other =", "its class has the name 'names'"),
        (":Names", ":Lost", "cannot be loaded"),
    ],
)
def test_one_that_does_not_fit_is_left_out_and_named_with_its_package(
    environment, tmp_path, old, new, said
):
    file = tmp_path / "site/their_paper-1.0.dist-info/entry_points.txt"
    file.write_text(file.read_text().replace(old, new))
    done = run(environment, "-m", "cnnlens", "--help")
    assert done.returncode == 0  # all other methods work
    assert said in done.stderr
    assert "their-paper" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_other_method_is_called_as_anything_of_ours():
    import typer.main

    from cnnlens import Investigation
    from cnnlens.cli.app import app
    from cnnlens.methods import methods
    from cnnlens.methods.plugged import RESERVED

    commands = {*typer.main.get_command(app).commands} - {*methods()}
    attributes = {n for n in dir(Investigation("zoo:demo_net")) if not n.startswith("_")}
    assert commands | attributes - {*methods()} <= RESERVED
    assert not RESERVED & {*methods()}


def test_one_that_differs_by_a_dash_alone_is_taken(environment, tmp_path):
    file = tmp_path / "site/their_paper-1.0.dist-info/entry_points.txt"
    module = tmp_path / "site/their_paper.py"
    two = METHOD[METHOD.index("class Names") :].replace("Names(", "Other(")
    module.write_text(
        METHOD.replace('"names", (', '"my-names", (') + two.replace('"names", (', '"my_names", (')
    )
    file.write_text(
        "[cnnlens.methods]\nmy-names = their_paper:Names\nmy_names = their_paper:Other\n"
    )
    done = run(environment, "-m", "cnnlens", "--help")
    assert "'my_names', which is taken" in done.stderr and "my-names" in done.stdout


def test_its_dashes_are_underscores_in_python(environment, tmp_path):
    file = tmp_path / "site/their_paper-1.0.dist-info/entry_points.txt"
    file.write_text("[cnnlens.methods]\nmy-names = their_paper:Names\n")
    module = tmp_path / "site/their_paper.py"
    module.write_text(METHOD.replace('"names", (', '"my-names", ('))
    script = (
        f"import sys; sys.path.append({str(tmp_path / 'site')!r})\n"
        "import json, cnnlens\n"
        f"lens = cnnlens.Investigation('zoo:demo_net', {str(tmp_path / 'ws')!r}, quiet=True)\n"
        "assert 'my_names' in dir(lens) and 'my-names' not in dir(lens)\n"
        "assert lens.my_names.__name__ == 'my_names'\n"
        "print(lens.my_names())\n"
    )
    done = bare.run(script)
    assert done.returncode == 0, done.stderr
    assert "conv1" in done.stdout
    assert "lens.my_names()" in (tmp_path / "ws/workspace.json").read_text()
    assert "my-names" in run(environment, "-m", "cnnlens", "my-names", "--help").stdout


def test_every_part_of_the_page_is_there_to_be_loaded(tmp_path):
    from cnnlens.methods import sections

    assert len(sections()) > 10
    assert [gather(tmp_path) for _, gather in sections()] == [None] * len(sections())


def test_a_package_that_follows_the_documentation_to_the_letter_is_a_plug_in(tmp_path):
    text = (HERE / "docs/add-a-method.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S)
    of_kind = {kind: [code for name, code in blocks if name == kind] for kind, _ in blocks}
    package, site, desk = (tmp_path / name for name in ("their-paper", "site", "desk"))
    package.mkdir(), desk.mkdir()
    (package / "their_paper.py").write_text("\n".join(of_kind["python"]))
    (project,) = of_kind["toml"]
    (package / "pyproject.toml").write_text(project)
    environment = {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{site}", "NO_COLOR": "1"}
    half = (0.5,) * 3
    net = ZOO["demo_net"].make(3).eval()
    save_checkpoint(desk / "model.pt", net, "zoo:demo_net", Preprocess((24, 24), half, half))
    make_shapes(desk / "photos", 12, 24)

    (script,) = of_kind["sh"]
    install, *commands = (shlex.split(line) for line in script.splitlines())
    assert install == ["pip", "install", "."]
    apart = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--target", str(site)]
    done = run(environment, "-m", *install[:-1], *apart, package)
    assert done.returncode == 0, done.stderr
    said = {}
    for program, *words in commands:
        assert program == "cnnlens"
        done = run(environment, "-m", "cnnlens", *words, folder=desk)
        assert done.returncode == 0 and "cannot be loaded" not in done.stderr, done.stderr
        said[words[0]] = done.stdout
    assert json.loads(said["names"])[0] == "conv1" and "mean_peak" in said["peaks"]
    folder = desk / "cnnlens-out/peaks/conv1"
    peaks = np.loadtxt(folder / "peaks.csv", skiprows=1)
    assert json.loads((folder / "summary.json").read_text())["mean_peak"] == peaks.mean()
    assert np.allclose(peaks, literal_peaks(desk), atol=1e-5)
    again = "import cnnlens; print(cnnlens.Investigation(quiet=True).peaks(layer='conv1')['units'])"
    assert run(environment, "-c", again, folder=desk).stdout.split() == [str(len(peaks))]


def literal_peaks(desk: Path) -> np.ndarray:
    """The highest activation of each unit of conv1, behind its rectifier: image after image."""
    model = open_model(str(desk / "model.pt"), device="cpu")
    layer, images = find_layers(model).resolve("conv1"), open_data(desk / "photos")
    maps: list[torch.Tensor] = []
    keep = model.net.get_submodule(layer.place.path).register_forward_hook(
        lambda module, given, output: maps.append(output.amax((0, 2, 3)))
    )
    with keep, torch.no_grad():
        for number in range(len(images.paths)):
            pixels = torch.from_numpy(images.pixels(number, model.preprocess))[None]
            model.net(model.preprocess.normalize(pixels))
    return torch.stack(maps).amax(0).numpy()


def test_the_code_in_the_documentation_works_as_it_stands(tmp_path, monkeypatch):
    from types import ModuleType

    from PIL import Image

    from cnnlens.report.page import write_report

    text = (HERE / "docs/add-a-method.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    module = ModuleType("their_paper")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look there
    exec("\n".join(blocks), known := vars(module))
    assert known["Names"].name == "names"
    assert known["SharpSettings"]().top == 9
    assert known["sharp"](tmp_path) is None
    (tmp_path / "sharp/conv5").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(tmp_path / "sharp/conv5/3.png")
    told: list = []
    page = write_report(tmp_path, [("sharp", known["sharp"])], told.append)
    assert told == []
    assert "Sharpness" in page.read_text(encoding="utf-8") and "unit 3" in page.read_text()


def test_what_is_promised_to_methods_of_other_packages_can_be_imported():
    from importlib import import_module

    text = (HERE / "docs/compatibility.md").read_text(encoding="utf-8")
    (row,) = (line for line in text.splitlines() if "for methods of other packages" in line)
    *whole, blocks = re.findall(r"`(cnnlens\.[\w.]+)`", row)
    names = re.findall(r"`([A-Z]\w+)`", row)
    for path in (*whole, *(f"{blocks}.{name}" for name in names)):
        module, _, name = path.rpartition(".")
        assert hasattr(import_module(module), name), path
    assert len(whole) == 3 and len(names) == 4
