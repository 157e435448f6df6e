"""`allocation catalogue`: the messages over Redis, for people and for programs."""

from __future__ import annotations

from pathlib import Path

import click

from allocation.entrypoints.command_line.output import echo_json, json_option
from allocation.whole_files import is_link_of_another, replacing


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["asyncapi", "schemas", "markdown"]),
    help="Print an AsyncAPI 3.0 document; or the JSON Schemas of all versions ever published, by name; or a page.",
)
@json_option("Print JSON, one message a line.")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(file_okay=False, path_type=Path))
def catalogue(form: str | None, as_json: bool, folder: Path | None) -> None:
    """List the messages that the service sends and accepts over Redis.

    With DIR write there, instead, asyncapi.json, events.md and schemas/: a JSON Schema for each version ever published.
    """
    if (form is not None) + as_json + (folder is not None) > 1:
        raise click.UsageError("give one of --format, --json and DIR")
    if folder:
        _write(folder)
    elif form:
        click.echo(_text(form), nl=False)
    else:
        _list(as_json)


def _text(form: str) -> str:
    from allocation.catalogue import asyncapi, history, page

    if form == "markdown":
        return page.page()
    return history.written(asyncapi.document() if form == "asyncapi" else history.published())


def _write(folder: Path) -> None:
    from allocation.catalogue import history

    schemas = folder / "schemas"
    try:
        if is_link_of_another(schemas):
            raise click.ClickException(f"can't write to {schemas}: it is a link that somebody else has made")
        schemas.mkdir(parents=True, exist_ok=True)
        texts = {folder / "asyncapi.json": _text("asyncapi"), folder / "events.md": _text("markdown")}
        texts |= {schemas / f"{name}.json": history.written(schema) for name, schema in history.published().items()}
        for path, text in texts.items():
            with replacing(path) as file:
                file.write(text.encode())
    except OSError as error:
        raise click.ClickException(f"can't write to {folder}: {error.strerror}") from error
    click.echo(f"Written to {folder}: asyncapi.json, events.md and schemas/.")


def _list(as_json: bool) -> None:
    from allocation.catalogue import messages

    for message in messages():
        about = {"name": message.name, "direction": message.channel.direction, "channel": message.channel.address}
        if as_json:
            echo_json(about | {"says": message.says})
        else:
            click.echo("{name:38} {direction:9} {channel:22} ".format(**about) + message.says)
