"""The commands and their options; what they do is in the modules beside this one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tsuzuku import __version__
from tsuzuku.cli.chosen import Chosen, chosen_server
from tsuzuku.cli.data_commands import data
from tsuzuku.core.errors import TsuzukuError

# what a wrong command line raises; typer has had it from click, and has its own copy now
USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    name="tsuzuku",
    help="Tsuzuku (続く): train PyTorch models so that training goes on, whatever happens.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data, name="data")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings, e.g. num_epochs=3 model.latent_dim=8."),
]


def run(words: list[str] | None) -> int:
    """Run the command line; every error that is meant for a person becomes its exit code."""
    try:
        return int(
            app(_optional_value(sys.argv[1:] if words is None else words), standalone_mode=False)
            or 0
        )
    except TsuzukuError as error:
        print(f"tsuzuku: {error.detail}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        return error.exit_code
    except typer.Exit as done:
        return done.exit_code
    except USAGE_ERROR as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        # the reader of a pipe has seen enough (`tsuzuku runs | head`)
        sys.stderr.close()
        return 141


def _optional_value(words: list[str]) -> list[str]:
    """Let `--resume` stand without a checkpoint; it means the newest one then."""
    filled = list(words)
    for index, word in enumerate(words):
        following = words[index + 1] if index + 1 < len(words) else "-"
        if word == "--resume" and (following.startswith("-") or "=" in following):
            filled[index] = "--resume=latest"
    return filled


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"tsuzuku {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    workspace: Annotated[
        Path, typer.Option("-w", "--workspace", help="The workspace folder.", show_default="here")
    ] = Path(),
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="TSUZUKU_SERVER",
            help="Work on a server's workspace; its token is taken from TSUZUKU_TOKEN.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    _ = version
    context.obj = Chosen(context, workspace, chosen_server(context, server))


@app.command()
def init(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(metavar="DIR")] = None,
) -> None:
    """Make a workspace: config.yaml, models/, datasets/, data/. Never overwrites anything."""
    from tsuzuku.cli.scaffold import init_workspace

    here = context.obj.here("init makes a folder here")
    init_workspace(folder or here)


@app.command()
def demo(
    context: typer.Context,
    settings: Overrides = None,
    until_trained: Annotated[
        bool, typer.Option("--until-trained", help="End when it has, instead of at Ctrl-C.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="The page's port.", show_default="server.port or a free one"
        ),
    ] = None,
) -> int:
    """Make speech, train a Conformer on it under a page that shows it, and let it transcribe.

    Ctrl-C saves and stops; the next demo goes on from there.
    """
    from tsuzuku.cli.demo import demo as run_demo

    here = context.obj.here("demo trains in a folder here")
    return run_demo(here, settings or [], until_trained=until_trained, port=port)


@app.command()
def serve(
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option(help="The address to listen on.", show_default="server.host")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="The port.", show_default="server.port"),
    ] = None,
    no_dashboard: Annotated[bool, typer.Option("--no-dashboard", help="Only the API.")] = False,
) -> int:
    """Serve the workspace: dashboard, HTTP and WebSocket API. Trainings outlive the server."""
    from tsuzuku.server.run import serve as run_server

    workspace = context.obj.workspace("serve serves a folder here")
    return run_server(workspace, host, port, dashboard=not no_dashboard)


@app.command()
def train(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    dataset: Annotated[str, typer.Argument(metavar="DATASET")],
    settings: Overrides = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin a new run even if there is a checkpoint.")
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT", help="Go on from this one; `latest` for the newest."),
    ] = None,
) -> int:
    """Train a model on a data set; goes on from the newest checkpoint of the two if there is one.

    distributed.launcher=torchrun distributed.devices=2 trains on two devices of this machine;
    `tsuzuku ranks` shows how they fare.

    Ctrl-C saves and stops. Closing the terminal does neither: the training goes on, and
    `tsuzuku follow` shows it again.
    """
    return context.obj.source.train(model, dataset, settings or [], fresh, resume)


@app.command()
def resume(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="RUN_OR_CHECKPOINT")],
    settings: Overrides = None,
    model: Annotated[
        str | None, typer.Option(help="For a file of another program: the model.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Fine-tune onto this data set; a file of another program: its data set."),
    ] = None,
    fine_tune: Annotated[
        bool | None,
        typer.Option(
            "--fine-tune/--no-fine-tune",
            help="Take over the weights only, or all that can be kept.",
            show_default="--fine-tune for other data",
        ),
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Only say what would happen.")] = False,
    as_json: Json = False,
) -> int:
    """Go on with a run from its newest checkpoint, or branch off an older one.

    A .pt, .pth, .ckpt or .safetensors file of another program begins a new run; --preview says
    what of it is kept. Over --server, files are named as imports/NAME.
    """
    from tsuzuku.cli.plans import show_preview
    from tsuzuku.cli.source import Onto

    onto = Onto(model, dataset, fine_tune)
    if not preview:
        return context.obj.source.resume(target, settings or [], onto)
    show_preview(context.obj.source.preview(target, settings or [], onto), as_json)
    return 0


@app.command()
def stop(
    context: typer.Context, run_id: Annotated[str | None, typer.Argument(metavar="RUN")] = None
) -> int:
    """Ask the running training to save and stop, and wait until it has."""
    return context.obj.source.stop(run_id)


@app.command()
def follow(
    context: typer.Context, run_id: Annotated[str | None, typer.Argument(metavar="RUN")] = None
) -> int:
    """Watch a training; Ctrl-C ends the watching, not the training."""
    return context.obj.source.follow(run_id)


@app.command()
def status(context: typer.Context, as_json: Json = False) -> None:
    """What is being trained right now."""
    from tsuzuku.cli.listings import status as show

    show(context.obj.source, as_json)


@app.command()
def ranks(
    context: typer.Context,
    run_id: Annotated[str | None, typer.Argument(metavar="RUN")] = None,
    log: Annotated[
        int | None, typer.Option(metavar="RANK", min=0, help="Show what this rank has printed.")
    ] = None,
    tail: Annotated[
        int, typer.Option(metavar="LINES", min=1, max=10_000, help="At most so many of its lines.")
    ] = 500,
    as_json: Json = False,
) -> None:
    """Where the processes are that train a run together, their speed, and who is slow.

    Without RUN, of the training that runs, or ran last.
    """
    from tsuzuku.cli.ranks import ranks as show
    from tsuzuku.cli.ranks import show_log

    if log is None:
        show(context.obj.source, run_id, as_json)
    else:
        show_log(context.obj.source, run_id, log, tail, as_json)


@app.command()
def runs(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    status: Annotated[str | None, typer.Option(help="Only this status.")] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="First make the database again from the run folders.")
    ] = False,
    tree: Annotated[
        bool, typer.Option("--tree", help="Show which run branched from which, and where.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the runs, newest first."""
    from tsuzuku.cli.listings import runs as show

    show(context.obj.source, model, dataset, status, rebuild, tree, as_json)


@app.command()
def checkpoints(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    run: Annotated[str | None, typer.Option(help="Only this run.")] = None,
    as_json: Json = False,
) -> None:
    """List the checkpoints, newest first."""
    from tsuzuku.cli.listings import checkpoints as show

    show(context.obj.source, model, dataset, run, as_json)


@app.command()
def inspect(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT")],
    other: Annotated[
        str | None,
        typer.Option("--diff", metavar="OTHER", help="Show how another checkpoint differs."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what is in a checkpoint, or in what two differ, without opening them."""
    from tsuzuku.cli import checkpoints as show

    if other is None:
        show.inspect(context.obj.source, checkpoint, as_json)
    else:
        show.compare(context.obj.source, checkpoint, other, as_json)


@app.command()
def verify(
    context: typer.Context,
    checkpoints: Annotated[
        list[str],
        typer.Argument(metavar="CHECKPOINT…", help="Or a run, or a folder: all that are there."),
    ],
    as_json: Json = False,
) -> int:
    """Check that checkpoints are whole: hash, structure, shapes and finite weights."""
    from tsuzuku.cli.checkpoints import verify as run_verify

    return run_verify(context.obj.source, checkpoints, as_json)


@app.command()
def gather(
    context: typer.Context,
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_OR_CHECKPOINT…", help="Of a run, or in a folder: all that are there."
        ),
    ],
    as_json: Json = False,
) -> int:
    """Make one file each of checkpoints that several ranks have saved in parts."""
    from tsuzuku.cli.checkpoints import gather as run_gather

    return run_gather(context.obj.source, checkpoints, as_json)


@app.command()
def prune(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: Json = False,
) -> int:
    """Delete the checkpoints that no policy keeps, in every run."""
    from tsuzuku.cli.checkpoints import prune as run_prune

    return run_prune(context.obj.source, dry_run, as_json)


@app.command()
def export(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT")],
    kind: Annotated[
        str,
        typer.Option("--format", metavar="FORMAT", help="safetensors, onnx, torchscript or pt2."),
    ] = "safetensors",
    half: Annotated[bool, typer.Option("--half", help="16-bit floats: half the size.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="By default named after the checkpoint, here."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a checkpoint in another format, read it back, and compare.

    `safetensors` has the weights. The others have the model as a graph, which runs without its
    source; it is compared with the model at several lengths and batch sizes, and there is no file
    unless it agrees. What was compared is written beside the file, to FILE.json.
    """
    from tsuzuku.cli.checkpoints import export as run_export

    run_export(context.obj.source, checkpoint, kind, half, output, as_json)


@app.command()
def evaluate(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT")],
    dataset: Annotated[str | None, typer.Argument(metavar="DATASET")] = None,
    as_json: Json = False,
) -> None:
    """Measure a checkpoint on the validation samples of its data set, or of another one."""
    from tsuzuku.cli.checkpoints import evaluate as run_evaluate

    run_evaluate(context.obj.source, checkpoint, dataset, as_json)


@app.command()
def predict(
    context: typer.Context,
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Or the path of an exported ONNX file.")
    ],
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Files, or numbers of data samples.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Where pictures and curves are written.")
    ] = Path("predictions"),
    as_json: Json = False,
) -> None:
    """Try a checkpoint on files or on samples of its data set."""
    from tsuzuku.cli.checkpoints import predict as run_predict

    run_predict(context.obj.source, checkpoint, inputs, output, as_json)


@app.command()
def prove(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    dataset: Annotated[str, typer.Argument(metavar="DATASET")],
    settings: Overrides = None,
    kills: Annotated[int, typer.Option(min=1, help="How often the training is killed.")] = 5,
    seed: Annotated[
        int | None, typer.Option(help="Makes the moments of the kills repeatable.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Show that resuming is exact: train straight, train with SIGKILLs, compare bit by bit.

    With distributed.launcher and so on as for `train`.
    """
    from tsuzuku.cli.prove import prove as run_prove

    workspace = context.obj.workspace("prove runs, and kills, trainings where the workspace is")
    return run_prove(workspace, model, dataset, settings or [], kills, seed, as_json)
