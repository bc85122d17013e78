"""cli: the command `mpmesh`; one file a command, errors as one line."""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType

import typer

from mpmesh_core import __version__
from mpmesh_core.cli import (
    ablate,
    bench,
    body,
    data,
    demo,
    engine,
    evaluate,
    export,
    replay,
    run,
    train,
    weights,
)
from mpmesh_core.errors import MissingFileError, MPMeshError

app = typer.Typer(
    name="mpmesh",
    help="Metric 3D bodies of the people in pictures, from one RGB camera.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("demo")(demo.demo)
app.command("replay")(replay.replay)
app.command("bench")(bench.bench)
app.command("export")(export.export)
app.command("ablate")(ablate.ablate)
app.add_typer(body.app, name="body")
app.add_typer(data.app, name="data")
app.add_typer(engine.app, name="engine")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(train.app, name="train")
app.add_typer(weights.app, name="weights")


@app.callback(invoke_without_command=True)
def _options(
    version: bool = typer.Option(False, "--version", help="Print the version and leave."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what happens."),
) -> None:
    if version:
        typer.echo(f"mpmesh {__version__}")
        raise typer.Exit
    _refuse_deleted_folder()
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")


def main() -> None:
    """Run the command line; an error ends it with one line and its exit code.

    `--debug` may stand anywhere. Ctrl-C and SIGTERM unwind: what was done until then is written.
    """
    signal.signal(signal.SIGTERM, _stopped)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have it ignored
        signal.signal(signal.SIGINT, _stopped)
    words = [word for word in sys.argv[1:] if word != "--debug"]
    debug = len(words) < len(sys.argv) - 1
    try:
        code = app(args=words, standalone_mode=False)
    except (MPMeshError, OSError) as error:
        if debug:
            raise
        typer.echo(f"mpmesh: {error}", err=True)
        sys.exit(getattr(error, "exit_code", 1))
    except Exception as error:
        # Typer's own errors: of click, or of a copy of click in newer versions
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        if message():  # none where help was asked for by giving nothing
            line = " ".join(message().split()).rstrip(".")  # choices come on lines of their own
            typer.echo(f"mpmesh: {line}; --help shows what there is", err=True)
        sys.exit(getattr(error, "exit_code", 2))
    sys.exit(code if isinstance(code, int) else 0)


def _refuse_deleted_folder() -> None:
    """Say it before torch is imported, which ends the process there with words of its own.

    Raises:
        MissingFileError: the current folder is no more.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        raise MissingFileError("the current folder was deleted; go to another one") from None


def _stopped(number: int, frame: FrameType | None) -> None:
    typer.echo(f"mpmesh: stopped by {signal.Signals(number).name}", err=True)
    sys.exit(128 + number)
