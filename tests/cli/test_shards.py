"""--shard and join: what a batch system without torchrun starts ends with the same files."""

from __future__ import annotations

import shlex
import shutil
from contextlib import nullcontext
from pathlib import Path

import filelock
import pytest

from cnnlens.activations import joining
from cnnlens.study.workspace import Workspace

from .runner import cnnlens, files


def results(workspace: Path) -> dict[str, bytes]:
    """Everything but what names the command lines, and locks."""
    found = files(workspace)
    return {
        name: read
        for name, read in found.items()
        if name not in ("workspace.json", "report.html") and not name.endswith(".lock")
    }


def test_shares_then_join_then_the_command_itself_end_as_one_process_does(
    dissected, model, shapes, tmp_path
):
    given = ["dissect", model, "-d", shapes, "-l", "conv2", "-w", tmp_path, "--chance", 2]
    answer = cnnlens(*given, "--shard", "2/3", "--json")
    assert answer.code == 0, answer.err
    (store,) = answer.json["stores"]
    assert answer.json["share"] == "2/3"
    assert (store["blocks"], store["there"]) == (3, 1)  # 70 images, of which this share has 32
    assert store["missing"] == ["1/3", "3/3"] and not store["joined"]
    assert not (tmp_path / "dissect").exists()

    early = cnnlens("join", "-w", tmp_path)
    assert early.code == 1 and "lacks 2 of its 3 blocks: those of --shard 1/3, 3/3" in early.error
    assert early.err.rstrip().endswith("--chance 2 --shard 1/3")  # the command that goes on

    for share in ("1/3", "3/3"):
        assert cnnlens(*given, f"--shard={share}", "-q").code == 0
    done = cnnlens("join", "-w", tmp_path, "--json")
    assert done.code == 0, done.err
    assert done.json["stores"] == [str(tmp_path / "activations" / "shapes" / "conv2.h5")]
    (following,) = done.json["next"]
    assert following.startswith("cnnlens dissect ") and "--shard" not in following
    assert cnnlens(*given).code == 0
    assert results(tmp_path) == results(dissected)
    again = cnnlens("join", "-w", tmp_path)
    assert again.code == 0 and "waits to be joined" in again.err


def test_shares_beyond_the_blocks_and_after_the_join_say_so(model, shapes, tmp_path):
    words = ("extract", model, "-d", shapes, "-l", "conv2", "-w", tmp_path, "--shard")
    for more in ((), ("--json",)):
        answer = cnnlens(*words, "5/5", *more)
        assert answer.code == 0
    (store,) = answer.json["stores"]
    assert (store["blocks"], store["there"], store["joined"]) == (3, 0, False)
    assert store["missing"] == ["1/5", "2/5", "3/5"]
    early = cnnlens(*words, "5/5").out
    assert "share 5/5 has nothing to do: there are 3 blocks" in early
    assert "when the others are done: cnnlens join" in early and "all are done" not in early
    for number in (1, 2, 3):
        last = cnnlens(*words, f"{number}/5").out
    assert "share 3/5 is done" in last and "all are done: cnnlens join" in last
    assert cnnlens("join", "-w", tmp_path).code == 0
    late = cnnlens(*words, "1/5").out
    assert "cnnlens join" not in late and "the stores are there" in late
    (store,) = cnnlens(*words, "1/5", "--json").json["stores"]
    assert (store["blocks"], store["there"], store["joined"]) == (3, 3, True)


def test_joining_needs_no_model_and_says_what_comes_next(model, shapes, tmp_path):
    net = tmp_path / "net.pt"
    net.write_bytes(Path(model).read_bytes())
    for share in ("1/2", "2/2"):
        words = ("extract", net, "-d", shapes, "-l", "conv1", "-w", tmp_path / "ws")
        last = cnnlens(*words, "--shard", share)
    assert "all are done: cnnlens join -w" in last.out
    net.unlink()
    answer = cnnlens("join", "-w", tmp_path / "ws")
    assert answer.code == 0, answer.err
    assert "goes on from these: cnnlens extract " in answer.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shard", "0/3"], "--shard 0/3 is not a share: they count from 1/3 to 3/3"),
        (["--shard", "x"], "--shard x is not a share"),
        (["--shard", "1/2", "--force"], "--force with --shard"),
        (["--shard", "1/2", "--no-store"], "--shard fills activation stores"),
    ],
)
def test_shares_that_cannot_be(model, shapes, tmp_path, words, said):
    given = ["dissect", model, "-d", shapes, "-l", "conv2", "-w", tmp_path / "ws"]
    answer = cnnlens(*given, *words)
    assert answer.code == 2 and said in answer.error
    assert not (tmp_path / "ws").exists()


def test_blocks_of_an_interrupted_run_are_named_by_join(model, shapes, tmp_path):
    """Nobody ran a share here: the command itself goes on."""
    words = ("extract", model, "-d", shapes, "-l", "conv2", "-w", tmp_path)
    assert cnnlens(*words, "--shard", "1/2").code == 0
    (noted,) = tmp_path.glob("activations/*/.conv2.h5.parts/command.json")
    for left in ("{", '{"command": 3}', None):
        noted.unlink() if left is None else noted.write_text(left)
        answer = cnnlens("join", "-w", tmp_path)
        assert answer.code == 1 and "lacks 1 of its 3 blocks" in answer.error
        assert "goes on from these" in answer.err


def test_join_names_the_shares_of_the_store_that_lacks_them(model, shapes, tmp_path):
    """Whatever other data was shared out later; and makes the stores that are whole."""
    other, ws = tmp_path / "other", tmp_path / "ws"
    shutil.copytree(shapes, other)
    shutil.copytree(shapes / "images", tmp_path / "gone" / "images")
    words = ("extract", model, "-w", ws, "--shard")
    assert cnnlens(*words, "1/2", "-d", tmp_path / "gone/images", "-l", "conv1").code == 0
    shutil.rmtree(tmp_path / "gone")
    assert cnnlens(*words, "3/3", "-d", shapes, "-l", "conv2").code == 0
    for share in ("1/2", "2/2"):
        assert cnnlens(*words, share, "-d", other, "-l", "conv1").code == 0
    answer = cnnlens("join", "-w", ws)
    assert answer.code == 2 and (ws / "activations/other/conv1.h5").is_file()
    assert "gone" in answer.error
    shutil.rmtree(ws / "activations/images")
    answer = cnnlens("join", "-w", ws)
    assert "conv2.h5 lacks 2 of its 3 blocks: those of --shard 1/3, 2/3" in answer.error
    hint = answer.err.splitlines()[-1]
    assert f"-d {shapes}" in hint and hint.endswith("--shard 1/3") and "-l conv2" in hint


def test_shares_that_name_other_copies_of_the_images_are_told(model, shapes, tmp_path):
    for number in (1, 2):
        folder = tmp_path / f"node{number}" / "shapes"
        shutil.copytree(shapes, folder)
        words = ("extract", model, "-w", tmp_path / "ws", "-d", folder, "-l", "conv2")
        assert cnnlens(*words, "--shard", f"{number}/2").code == 0
    answer = cnnlens("join", "-w", tmp_path / "ws")
    assert answer.code == 1 and "shapes-2/conv2.h5 has blocks of the same images" in answer.error
    assert "alike in all shares" in answer.err


@pytest.mark.parametrize("seen", ["whole", "going", "held"])
def test_who_joins_late_sees_that_it_is_joined(model, shapes, tmp_path, monkeypatch, seen):
    """Another join is through after this one has found the blocks, or is still at it."""
    words = ("extract", model, "-d", shapes, "-l", "conv2", "-w", tmp_path, "--shard")
    for share in ("1/2", "2/2"):
        assert cnnlens(*words, share).code == 0
    (store,) = (p.parent / "conv2.h5" for p in tmp_path.glob("activations/*/.conv2.h5.parts"))
    counted = joining.Unfinished.missing

    def missing(self: joining.Unfinished, images: int) -> tuple[list[int], int]:
        with monkeypatch.context() as other:
            other.setattr(joining.Unfinished, "missing", counted)
            found = counted(self, images)
            if seen != "held":
                assert cnnlens("join", "-w", tmp_path).code == 0
        return found if seen == "whole" else counted(self, images)

    monkeypatch.setattr(joining.Unfinished, "missing", missing)
    with filelock.FileLock(store.with_name(".conv2.h5.lock")) if seen == "held" else nullcontext():
        answer = cnnlens("join", "-w", tmp_path)
    if seen == "held":
        assert answer.code == 1 and "is being written by another process" in answer.error
    else:
        assert answer.code == 0 and f"{store} was just joined by another process" in answer.err


@pytest.mark.parametrize("words", [("layers", "zoo:demo_net"), ("visualize", "zoo:demo_net")])
def test_one_process_s_work_is_not_started_on_several(monkeypatch, words):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    more = ("-f", "conv1:0") if words[0] == "visualize" else ()
    answer = cnnlens(*words, *more)
    assert answer.code == 2 and "is one process's work" in answer.error
    assert "extract" in answer.err and "dissect" in answer.err
    monkeypatch.setenv("RANK", "1")
    assert cnnlens(*words, *more).err == ""  # the first one has said it


def test_shares_and_torchrun_exclude_each_other(monkeypatch, model, shapes, tmp_path):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    words = ("extract", model, "-d", shapes, "-l", "conv2", "-w", tmp_path)
    answer = cnnlens(*words, "--shard", "1/2")
    assert answer.code == 2 and "batch systems without torchrun" in answer.error


def test_calls_in_python_that_no_shell_could_read_disturb_no_join(model, shapes, tmp_path):
    import cnnlens as package

    folder = tmp_path / 'Zoé\'s "own"'
    shutil.copytree(shapes, folder)
    lens = package.Investigation(str(model), tmp_path / "ws", quiet=True)
    for share in ("1/2", "2/2"):
        lens.extract(data=folder, layer="conv2", shard=share)
    line, *_ = Workspace(tmp_path / "ws").document["commands"]
    with pytest.raises(ValueError, match="No closing quotation"):
        shlex.split(line)
    answer = cnnlens("join", "-w", tmp_path / "ws")
    assert answer.code == 0 and answer.out.strip().endswith("conv2.h5")


def test_in_python_a_share_says_how_far_all_are(model, shapes, tmp_path):
    import cnnlens as package

    lens = package.Investigation(str(model), tmp_path, quiet=True)
    found = lens.extract(data=shapes, layer="conv2", shard="1/2")
    assert found["share"] == "1/2" and found["stores"][0]["missing"] == ["2/2"]
