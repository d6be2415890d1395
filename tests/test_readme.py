"""README's commands, run one after another as they stand, on small stand-ins for what they name.

Nothing is downloaded and little is optimized: what a command draws or trains is cut short by
options that are put behind it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from cnnlens.data.open import BRODEN_FOLDERS
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.zoo import ZOO
from tests.cli.runner import cnnlens
from tests.documented import undocumented

README = Path(__file__).parents[1] / "README.md"
SHORTER = {
    "units": ["--no-page"],
    "dissect": ["--chance", 1, "--no-page"],
    "net2vec": ["--filters", 1, "--epochs", 1, "--chance", 0, "--no-page"],
    "label": ["--chance", 0, "--no-page"],
    "exam": ["--chance", 1, "--resamples", 0, "--no-page"],
    "ablate": ["--random", 1, "--no-page"],
    "visualize": ["--steps", 20, "--views", 1, "--no-page"],
    "deconv": ["--no-page"],
    "evolve": ["--no-page"],
    "cam": ["--no-page"],
    "invert": ["--steps", 2, "--no-page"],
    "fool": ["--steps", 2, "--no-page"],
    "style": ["--steps", 2, "--no-page"],
    "cluster": ["--no-page"],
    "explain": ["--no-page"],
    "outliers": ["--noise", 8, "--no-page"],
    "finetune": ["--epochs", 1, "--trunk", 0, "--image-size", 64],
    "stability": ["--held-out", "all", "--no-page"],  # of 48 images too few are held out
}
TRAINED = ["--epochs", 1, "--width", 4, "--no-page"]  # a method that trains a network first
NOT_RUN = ("data",)  # a download; imports, which tests/data runs


def prompts() -> list[tuple[str, str]]:
    """Everything behind a prompt without its comment, and what it is piped into."""
    lines = re.findall(r"^    \$ (cnnlens .*)$", README.read_text(encoding="utf-8"), re.M)
    parts = [re.split(r"\s+#\s", line)[0].partition(" | ") for line in lines]
    return [(line.strip(), pipe.strip()) for line, _, pipe in parts]


def commands() -> list[str]:
    return [line for line, _ in prompts()]


def expanded(word: str) -> list[str]:
    """What a shell makes of a word."""
    return sorted(map(str, Path().glob(word))) if "*" in word else [word]


def pictures(folder: Path, count: int, side: int) -> None:
    rng = np.random.default_rng([count, *folder.name.encode()])  # no photo is in two classes
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = rng.integers(0, 256, (side, side, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with all that README's commands name, and the working folder meanwhile."""
    folder, before = tmp_path_factory.mktemp("readme"), Path.cwd()
    torch.manual_seed(0)
    large, small = torchvision.models.squeezenet1_0(), Preprocess((64, 64))
    save_checkpoint(folder / "squeezenet.pt", large, "torchvision:squeezenet1_0", small)
    narrow = ZOO["resnet18_cifar"].make(num_classes=3, width=4)
    torch.save(narrow.state_dict(), folder / "cifar.pt")
    pictures(folder / "photos", 3, 64)
    for name in ("airplane", "bird", "cat"):
        for split, count in (("train", 4), ("test", 12)):
            pictures(folder / "cifar10" / split / name, count, 32)
    for name in ("dog", "painting", "horse"):
        Image.open(folder / "photos" / "0.png").save(folder / f"{name}.jpg")
    broden, parts = folder / "home" / BRODEN_FOLDERS[224], folder / "CUB_200_2011"
    for kind, count, out in (("shapes", 8, broden), ("animals", 48, parts)):
        answer = cnnlens("data", "make", kind, "--images", count, "--out", out)
        assert answer.code == 0, answer.err
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNLENS_HOME", str(folder / "home"))
        patch.delenv("CNNLENS_WORKSPACE", raising=False)
        os.chdir(folder)
        yield folder
        os.chdir(before)


def test_readme_names_commands() -> None:
    assert len(commands()) > 20
    assert {line.split()[1] for line in commands()} >= {*SHORTER, "layers", "extract", "compare"}


@pytest.mark.timeout(600)
def test_the_commands_of_the_readme_run_as_they_stand(place: Path) -> None:
    for line, pipe in prompts():  # later ones go on from what earlier ones left
        words = [one for word in shlex.split(line)[1:] for one in expanded(word)]
        if words[0] not in NOT_RUN:
            shorter = TRAINED if "upconv" in words else SHORTER.get(words[0], [])
            answer = cnnlens(*words, *shorter)
            assert answer.code == 0, f"{line}: {answer.err}"
            if pipe:  # jq .KEY
                command, _, key = pipe.partition(" .")
                assert command == "jq" and answer.json[key] is not None, line
    # what is written stands in docs/files.md, down to the columns
    for workspace in {file.parent for file in place.rglob("workspace.json")}:
        assert undocumented(workspace) == []
    # its own line on CIFAR runs small images at their size
    cifar = json.loads((place / "cifar" / "workspace.json").read_text())["model"]
    assert cifar["preprocess"]["size"] == [32, 32]
