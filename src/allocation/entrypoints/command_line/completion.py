"""`allocation completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_ALLOCATION_COMPLETE"


@click.command(short_help="Print what completes commands in bash, zsh or fish.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that has a SHELL complete commands and options.

    \b
    bash  allocation completion bash > ~/.local/share/bash-completion/completions/allocation
    zsh   allocation completion zsh > ~/.zfunc/_allocation   (with fpath+=~/.zfunc before compinit in ~/.zshrc)
    fish  allocation completion fish > ~/.config/fish/completions/allocation.fish

    Or for this session of bash: source <(allocation completion bash)
    """
    known = get_completion_class(shell)
    assert known, "click knows these three"
    click.echo(known(ctx.find_root().command, {}, "allocation", _VARIABLE).source())
