"""What people see, where nobody reads it to its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from cnnlens.cli.screen import Screen


def test_who_has_seen_enough_stops_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as out:
        screen = Screen(_out=out)
        for number in range(3):
            screen.say(f"line {number}")
        screen.table(["a"], [[1]])


def test_the_page_is_made_though_nobody_reads_the_tables(tmp_path: Path) -> None:
    for number in range(3):
        file = tmp_path / "photos" / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (80 * number, 0, 0)).save(file)
    words = ["units", "zoo:demo_net", "-d", "photos", "-l", "conv1", "--image-size", "16"]
    command = [sys.executable, "-m", "cnnlens", *words, "-w", "w", "--device", "cpu"]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as out:
        run = subprocess.run(command, cwd=tmp_path, stdout=out, stderr=subprocess.PIPE, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "w" / "report.html").is_file()
