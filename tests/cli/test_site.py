"""``cnnlens report --site``: what it prints, what it refuses."""

from __future__ import annotations

from pathlib import Path

import cnnlens as package
from tests.report.fake_workspace import make_workspace

from .runner import cnnlens


def dissected(folder: Path) -> Path:
    make_workspace(folder, {"conv5": 4}, images=4)
    (folder / "workspace.json").unlink()  # of an imaginary model
    return folder


def test_the_front_page_is_what_is_printed(tmp_path: Path) -> None:
    workspace, site = dissected(tmp_path / "ws"), tmp_path / "site"
    answer = cnnlens("report", "-w", workspace, "--site", site)
    assert (answer.code, answer.out) == (0, f"{site / 'index.html'}\n"), answer.err
    assert not (workspace / "report.html").exists()
    answer = cnnlens("report", "-w", workspace, "--site", site, "--json")
    files = [path for path in site.rglob("*") if path.is_file()]
    assert answer.json == {
        "site": str(site / "index.html"), "units": 4, "images": 0, "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
    }  # fmt: skip
    lens = package.Investigation(workspace=workspace)
    assert lens.report(site=site) == site / "index.html"


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    workspace = dissected(tmp_path / "ws")
    answer = cnnlens("report", "-w", workspace, "--site", workspace)
    assert answer.code == 2 and "something else than a site" in answer.error
    answer = cnnlens("report", "-w", workspace, "--url", "https://example.org")
    assert answer.code == 2 and "--site DIR" in answer.err
    answer = cnnlens("report", "-w", tmp_path / "none", "--site", tmp_path / "site")
    assert answer.code == 1 and "knows nothing of any unit" in answer.error
