"""The notebooks run from top to bottom."""

from __future__ import annotations

from pathlib import Path

import pytest

# what takes longest trains less here; all else is as it stands
SHORTER = {
    "interpretable_training": {
        '"animals", 240)': '"animals", 120)',
        "epochs=6": "epochs=2",
        '"epochs": 3': '"epochs": 1',
    },
    "dissection": {'"shapes", 180)': '"shapes", 90)', "chance=10": "chance=3"},
    "is_this_label_true": {"epochs=6": "epochs=3"},
    "model_in_memory": {"range(60)": "range(20)"},
}
NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples/notebooks").glob("*.ipynb"))


def test_there_are_four():
    assert len(NOTEBOOKS) == 4


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    for long, short in SHORTER.get(path.stem, {}).items():
        (cell,) = (one for one in notebook.cells if long in one.source)
        cell.source = cell.source.replace(long, short)
    client = nbclient.NotebookClient(
        notebook,
        timeout=500,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    shown = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    assert not [output for output in shown if output.output_type == "error"]
    html = [o.data["text/html"] for o in shown if "text/html" in o.get("data", {})]
    assert html  # results show themselves
    assert all(len(one) <= 1_000_000 for one in html)
