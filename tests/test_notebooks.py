"""The notebooks run from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# what takes longest trains less here; all else is as it stands
SHORTER = {
    "interpretable_training": {
        '"animals", 240)': '"animals", 72)',
        "epochs=6": "epochs=2",
        '"epochs": 3': '"epochs": 1',
    },
    "dissection": {'"shapes", 180)': '"shapes", 45)', "chance=10": "chance=3"},
    "is_this_label_true": {"epochs=6": "epochs=3"},
    "model_in_memory": {"range(60)": "range(20)", "scenes(60": "scenes(30", "steps=48": "steps=12"},
}
NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples/notebooks").glob("*.ipynb"))


def test_there_are_four():
    assert len(NOTEBOOKS) == 4


@pytest.fixture(scope="module")
def kernel() -> Iterator[Any]:
    """One kernel for all of them: each would import PyTorch for itself. Names are taken back."""
    manager = pytest.importorskip("jupyter_client").KernelManager(kernel_name="python3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        manager.start_kernel()
        yield manager
        manager.shutdown_kernel(now=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, kernel: Any, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    for long, short in SHORTER.get(path.stem, {}).items():
        (cell,) = (one for one in notebook.cells if long in one.source)
        cell.source = cell.source.replace(long, short)
    afresh = f"import os\nos.chdir({str(tmp_path)!r})\n%reset -f"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(afresh))
    nbclient.NotebookClient(notebook, km=kernel, timeout=500).execute()
    shown = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    assert not [output for output in shown if output.output_type == "error"]
    plain = [str(o.get("data", {}).get("text/plain", "")) for o in shown]
    assert not [text for text in plain if "untested" in text]  # each ends in an answer
    html = [o.data["text/html"] for o in shown if "text/html" in o.get("data", {})]
    assert html  # results show themselves
    assert all(len(one) <= 1_000_000 for one in html)
