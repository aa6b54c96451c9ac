"""`tsuzuku data …`: the commands that bring data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

data = typer.Typer(help="Make or fetch a data set.", no_args_is_help=True)


@data.command("download")
def data_download(
    context: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME")]
) -> int:
    """Download a data set; goes on where an interrupted download ended."""
    return context.obj.source.download(name)


@data.command("make")
def data_make(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    count: Annotated[
        int | None,
        typer.Option(
            min=1, help="How many utterances; 1200 for speech, 600 for face if not given."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="speech, face: other sentences and voices for another number."),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(help="speech: a file with the lines to speak, three times each."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Another folder than data/NAME.")
    ] = None,
) -> None:
    """Make a data set on the spot: `digits`, `speech` or `face`.

    `digits` are scikit-learn's digits in MNIST's format. `speech` is spoken by espeak-ng in several
    voices, in LJSpeech's layout: 40 minutes of everyday sentences, or the lines of a file. `face`
    is 25 minutes of such speech with the face that speaks it, as blendshapes of ARKit.
    """
    from tsuzuku.cli.datasets import show_made
    from tsuzuku.core.downloadable import Making

    show_made(context.obj.source, Making(name, count, seed, text), output)
