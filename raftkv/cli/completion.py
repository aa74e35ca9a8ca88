"""`raftkv completion bash|zsh|fish`: click's own completion scripts."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from raftkv.cli.lazy import CliCommand

SHELLS = ("bash", "zsh", "fish")
EXAMPLES = """
source <(raftkv completion bash)                          this shell
raftkv completion bash > ~/.local/share/bash-completion/completions/raftkv
raftkv completion zsh > "${fpath[1]}/_raftkv"
raftkv completion fish > ~/.config/fish/completions/raftkv.fish
"""


@click.command("completion", cls=CliCommand, examples=EXAMPLES)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that teaches a shell to complete raftkv's commands and flags."""
    kind = get_completion_class(shell)
    assert kind is not None, f"click has no completion for {shell}"
    click.echo(kind(ctx.find_root().command, {}, "raftkv", "_RAFTKV_COMPLETE").source())
