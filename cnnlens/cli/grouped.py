"""How commands read their line, and write help that can be read: headings, examples at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup

#: options that name what a command works on, of which some commands take several
NAMING = ("--data", "--negatives", "--layer", "--filter", "--image")


class CarefulCommand(TyperCommand):
    """A command that drops no word of its line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse a line that lost a value, or would lose one; a shell that asks is told nothing."""
        if not ctx.resilient_parsing:
            self._check_values(ctx, args)
            self._check_repeats(ctx, args)
        return super().parse_args(ctx, args)

    def _check_values(self, ctx: Any, args: list[str]) -> None:
        """Notice an option whose value was left out before it swallows the next option."""
        known = {flag: p for p in self.get_params(ctx) for flag in (*p.opts, *p.secondary_opts)}
        for number, word in enumerate(args):
            following = args[number + 1] if number + 1 < len(args) else None
            parameter = known.get(word)
            if parameter is None or getattr(parameter, "is_flag", False) or word == "--":
                continue
            if not word.startswith("-") or (following is not None and following not in known):
                continue
            ctx.fail(f"{word} has no value: write {word} {parameter.metavar or 'VALUE'}")

    def _check_repeats(self, ctx: Any, args: list[str]) -> None:
        """Notice what names things, and takes one, but is given several: all but the last would go.

        Of settings the last one counts, so that a script's can be changed behind them.
        """
        _, _, order = self.make_parser(ctx).parse_args([*args])
        for parameter, count in Counter(order).items():
            # an argument has neither
            often = getattr(parameter, "multiple", True) or getattr(parameter, "is_flag", True)
            flag = max(parameter.opts, key=len)
            if count > 1 and not often and flag in NAMING:
                ctx.fail(f"{flag} is given {count} times and takes one value: give it once")


class GroupedCommand(CarefulCommand):
    """A command whose options stand under the headings they were declared for."""

    examples: tuple[str, ...] = ()

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section per heading, then the examples."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and parameter.param_type_name == "argument":
                record = (parameter.metavar or str(parameter.name).upper(), record[1])
            if record is not None:
                rows.setdefault(_heading(parameter), []).append(record)
        for heading, records in rows.items():
            with formatter.section(heading):
                formatter.write_dl(records)
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _heading(parameter: Any) -> str:
    panel = getattr(parameter, "rich_help_panel", None)
    if panel is None:
        return "Arguments" if parameter.param_type_name == "argument" else "Help"
    return str(panel)


def with_examples(examples: Iterable[str]) -> type[GroupedCommand]:
    """Make the class of a command that has examples."""
    return type("GroupedCommand", (GroupedCommand,), {"examples": tuple(examples)})


class GroupedCommands(TyperGroup):
    """Commands under headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section per heading; a summary fits its line whole."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            one = self.get_command(ctx, name)
            if one is not None and not one.hidden:
                panel = getattr(one, "rich_help_panel", None) or "Commands"
                rows.setdefault(str(panel), []).append((name, _summary(one)))
        for heading, records in rows.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def _summary(command: Any) -> str:
    """First line of a command's help, whole."""
    return str((command.help or "").strip().split("\n\n")[0]).replace("\n", " ").rstrip(".")


# options that mean nearly the same to different commands
_SISTERS = {
    **{"-l": "-f", "--layer": "--filter", "-f": "-l", "--filter": "--layer"},
    **{"-i": "-d", "--image": "--data", "-d": "-i", "--data": "--image"},
    **{"--unit": "--filter", "--units": "--filter", "--images": "--image", "--layers": "--layer"},
    **{"--class": "--logit", "--logit": "--class", "-o": "--out", "--output": "--out"},
}


def sister(error: Any) -> str:
    """Name the option of this command that a wrong one probably meant; empty where none does."""
    context, wrong = getattr(error, "ctx", None), getattr(error, "option_name", None)
    meant = _SISTERS.get(str(wrong))
    if context is None or meant is None:
        return ""
    for parameter in context.command.get_params(context):
        if meant in parameter.opts:
            value = f" {parameter.metavar}" if parameter.metavar else ""
            return f"`{context.command_path}` takes {meant}{value}"
    return ""
