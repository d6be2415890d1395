"""The door's manners: help that can be read, and words that point on."""

from __future__ import annotations

import re

import pytest

from cnnlens.cli.app import app
from cnnlens.cli.grouped import NAMING
from cnnlens.methods import methods

from .runner import cnnlens, process


def help_of(*command: str) -> str:
    answer = cnnlens(*command, "--help")
    assert answer.code == 0
    return answer.out


def test_commands_stand_under_headings_and_every_summary_is_whole():
    text = process("--help", COLUMNS="80").out
    assert "Measure units:" in text
    assert "Look at images:" in text
    assert "..." not in text.replace("[ARGS]...", "")
    rows = re.findall(r"^  ([a-z0-9]+)  +(\S.*)$", text, re.M)
    assert {name for name, _ in rows} >= set(methods())
    assert [name for name, words in rows if len(f"  {name:<10}{words}") > 80] == []


@pytest.mark.parametrize("name", sorted(methods()))
def test_options_stand_under_headings_with_examples_at_the_end(name):
    text = help_of(name)
    headings = re.findall(r"^(\S[^:\n]*):$", text, re.M)
    assert headings[-1] == "Examples"
    assert {"Output", "Help"} <= set(headings)
    assert 2 <= len(re.findall(rf"^  cnnlens {name}\b", text, re.M)) <= 4
    assert "range>" not in text
    assert "<int" not in text
    assert "<str" not in text
    assert "TEXT" not in text


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_example_parses(name):
    """An example is a command line that typer takes: its options exist and have their values."""
    import shlex

    import typer

    group = typer.main.get_command(app)
    command = group.commands[name]
    for line in methods()[name].examples:
        words = shlex.split(line)[2:]
        context = command.make_context(name, words, resilient_parsing=False)
        assert context.params


def commands():
    """Every command with its name, those of a group too."""
    import typer

    def within(group, above=()):
        for name, one in group.commands.items():
            if hasattr(one, "commands"):
                yield from within(one, (*above, name))
            else:
                yield (*above, name), one

    return dict(within(typer.main.get_command(app)))


def refused(command, *words):
    """Say why a command does not take some words; empty where it does, or asks for more."""
    try:
        command.make_context("it", [*words])
    except Exception as error:  # typer's or click's
        return error.format_message()
    return ""


@pytest.mark.parametrize("name", commands(), ids=" ".join)
def test_what_names_one_thing_is_given_once_and_any_other_as_often_as_one_likes(name):
    """Of settings the last one counts: whoever calls a script adds them behind its own."""
    command = commands()[name]
    for option in (p for p in command.params if p.param_type_name == "option"):
        value = () if option.is_flag else ("1",)
        said = refused(command, option.opts[0], *value, option.opts[-1], *value)
        often = option.is_flag or option.multiple or option.opts[0] not in NAMING
        once = f"{option.opts[0]} is given 2 times and takes one value: give it once"
        assert (said == once) is not often, said


def test_of_two_values_the_first_is_not_dropped_without_a_word(tmp_path):
    answer = cnnlens("dissect", "x.pt", "-d", tmp_path / "a", "-d", tmp_path / "b")
    assert answer.code == 2 and "--data is given 2 times" in answer.error
    assert cnnlens("data", "list", "--json", "--json").code == 0


@pytest.mark.parametrize("words", [("-w", "--json"), ("-i",), ("-i", "-w", "x"), ("--class", "-q")])
def test_an_option_without_its_value_is_named(words):
    answer = cnnlens("cam", *words)
    assert answer.code == 2
    assert f"{words[0]} has no value" in answer.error


def test_a_value_may_begin_with_a_dash_where_it_is_no_option(tmp_path):
    answer = cnnlens("cam", "zoo:demo_net", "-i", "-1.png", "-w", tmp_path)
    assert "no image -1.png" in answer.error


@pytest.mark.parametrize(
    ("words", "meant"),
    [(("deconv", "-l", "conv5"), "-f LAYER:UNITS"), (("cam", "-d", "photos"), "-i IMAGE"),
     (("dissect", "-f", "conv5:1"), "-l LAYER")],
)  # fmt: skip
def test_a_sister_commands_option_points_on(words, meant):
    answer = cnnlens(*words)
    assert answer.code == 2
    assert f"takes {meant}" in answer.err


@pytest.mark.parametrize("address", ["conv1:", ":3", ":"])
def test_half_an_address_says_what_is_missing(address, model, tmp_path):
    answer = cnnlens("visualize", model, "-f", address, "-w", tmp_path)
    assert answer.code == 2
    assert "names no unit" in answer.error or "names no layer" in answer.error


@pytest.mark.parametrize(
    "name", ["dissect", "stability", "cluster", "deconv", "extract", "finetune"]
)
def test_a_missing_data_folder_is_said_before_the_model_is_opened(name, tmp_path):
    more = ("-f", "conv1:0") if name == "deconv" else ()
    answer = cnnlens(name, tmp_path / "no.pt", "-d", tmp_path / "no-data", *more, "-w", tmp_path)
    assert "no-data" in answer.error


def test_a_damaged_neighbour_costs_neither_document_nor_page(workspace, shapes):
    """The picture, its document and the page are there, and the page names what is damaged."""
    summary = workspace / "dissect/conv2/summary.json"
    summary.write_text(summary.read_text()[:40])
    image = next(iter((shapes / "images").rglob("*.png")))
    answer = cnnlens("cam", "-i", image, "-w", workspace, "--json", "--method", "gradcam")
    assert answer.code == 0, answer.err
    assert answer.json["pictures"]
    assert "dissect/conv2/summary.json" in answer.err
    page = (workspace / "report.html").read_text()
    assert "summary.json" in page
    assert "damaged" in page


def test_a_path_in_a_table_is_never_broken(monkeypatch):
    """Who copies it from a terminal of 80 columns gets all of it."""
    import io

    from cnnlens.cli.screen import Screen

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    path = "out/" + "a-long-name-of-a-folder/" * 4 + "features.12.h5"
    rows = [("features.12", "520 × 512 × 13 × 13", path)]
    Screen(_out=stream).table(["layer", "images × units", "store"], rows)
    assert path in stream.getvalue()


def test_a_command_may_stand_alone():
    """No word after the command: it says what it needs, by its own words."""
    for name in (*methods(), "report", "layers"):
        answer = cnnlens(name)
        assert answer.code in (1, 2), name
        assert answer.error
