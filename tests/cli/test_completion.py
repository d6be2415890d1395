"""What a shell is told that asks how a line may go on."""

from __future__ import annotations

import pytest

from cnnlens.cli.completion import completing
from cnnlens.methods import methods
from cnnlens.methods.method import settings_of

from .runner import cnnlens


@pytest.fixture
def offered(monkeypatch):
    """Ask as bash does, the last word being the one that is typed."""

    def ask(*words: str) -> list[str]:
        line = ("cnnlens", *words)
        monkeypatch.setenv("_CNNLENS_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "\n".join(line))
        monkeypatch.setenv("COMP_CWORD", str(len(line) - 1))
        answer = cnnlens()
        assert answer.err == ""
        return answer.out.split()

    return ask


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_word_that_a_setting_may_be_is_offered_and_nothing_is_said(name, offered):
    for field in settings_of(methods()[name]):
        if words := [*filter(None, field.option.choices)]:
            assert offered(name, "model.pt", field.flag, "") == words


def test_what_begins_as_typed_is_offered(offered):
    assert offered("units", "model.pt", "--device", "c") == ["cpu", "cuda"]
    assert offered("visualize", "--preset", "d") == ["default", "deepdream"]
    assert offered("data", "make", "") == ["shapes", "animals"]
    assert offered("data", "download", "broden1_2") == ["broden1_227"]
    assert offered("di") == ["dissect"]


@pytest.mark.parametrize(
    "words",
    [("units", "model.pt", "-d", ""), ("cam", "-i", "x"), ("report", "-w", ""), ("units", "mod"),
     ("cam", "--data", "-w", "x", "--classes", ""), ("label", "--words", "")],
)  # fmt: skip
def test_where_a_path_may_stand_the_shell_offers_its_files(words, offered):
    assert offered(*words) == []


@pytest.mark.parametrize("metavar", ["FILE|imagenet", "noise|mean|IMAGE", "new.json|all", "N", ""])
def test_a_value_that_may_be_something_else_too_has_no_list(metavar):
    assert completing(metavar) is None


def test_completion_is_installed_for_the_shell_around_and_for_no_other(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    answer = cnnlens("--install-completion", "zsh")
    assert answer.code == 2 and "run it in zsh" in answer.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
