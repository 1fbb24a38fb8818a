"""Commands that are imported when they are called: `etude --help` reads sentences, not modules.

`command_tree` has the table; `cli` mounts `Commands` as the program.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from .command_tree import TREE, Branch, Entry

if TYPE_CHECKING:
    from typer._click.core import Context


class Later(TyperCommand):
    """Stands for a command with its sentence; parsing its arguments loads it."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name=name, help=entry.summary, rich_help_panel=entry.panel)
        self._entry = entry

    def load(self) -> TyperCommand:
        """The command itself."""
        module, _, function = self._entry.target.partition(":")
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(self.name)(getattr(import_module(f".{module}", __package__), function))
        made = typer.main.get_command(alone)
        assert isinstance(made, TyperCommand)
        return made

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: Context | None = None,
        **extra: object,
    ) -> Context:
        """The loaded command's context."""
        return self.load().make_context(info_name, args, parent, **extra)


class Commands(TyperGroup):
    """The program's groups, filled from the table."""

    def __init__(
        self, *, name: str | None = None, tree: Mapping[str, Entry | Branch] = TREE, **more: object
    ) -> None:
        super().__init__(name=name, **{**more, "commands": made(tree)})  # type: ignore[arg-type]

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: object,
    ) -> object:
        """Run a command and end the process; what goes wrong is said as by every program."""
        words = sys.argv[1:] if args is None else list(args)
        run = partial(
            super().main, words, prog_name, complete_var, False, windows_expand_args, **extra
        )
        if not standalone_mode:
            return run()
        try:
            code = run()
        except (TyperException, typer.Abort) as error:
            from etude_client.commands import ended  # with the contract, which help does not need

            code = ended(error, self.name or "etude", words)
        sys.exit(code)

    def list_commands(self, ctx: Context) -> list[str]:
        """In the order of the table."""
        return list(self.commands)


def made(tree: Mapping[str, Entry | Branch]) -> dict[str, TyperCommand | TyperGroup]:
    """Commands and groups of one level of the table."""
    return {
        name: Later(name, one)
        if isinstance(one, Entry)
        else Commands(
            name=name,
            tree=one.commands,
            help=one.summary,
            no_args_is_help=True,
            rich_help_panel=one.panel,
        )
        for name, one in tree.items()
    }
