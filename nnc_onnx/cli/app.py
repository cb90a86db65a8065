"""Entry point: commands, exit statuses, one line per error.

Nothing heavier than typer is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from . import analyze, apply, bench, convert, diff, inspect, pack, run, unpack, verify

EXIT_USER = 1
EXIT_INTERNAL = 2
EXIT_INTERRUPTED = 130

# Recent typer brings its own copy of click and older ones use the package, so the classes come from
# typer itself.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="onnx-nnc",
    help="Neural network coding (ISO/IEC 15938-17) for ONNX and NNEF models.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("pack")(pack.command)
app.command("unpack")(unpack.command)
app.command("inspect")(inspect.command)
app.command("verify")(verify.command)
app.command("run")(run.command)
app.command("bench")(bench.command)
app.command("analyze")(analyze.command)
app.command("convert")(convert.command)
app.command("diff")(diff.command)
app.command("apply")(apply.command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from nnc_onnx.version import producer

        typer.echo(producer())
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(EXIT_USER)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0 success, 1 user or input error, 2 internal error, 3 corrupt data, 4 verification mismatch, 5
    unsupported. With ``NNC_DEBUG=1`` in the environment exceptions pass through with their traceback.
    """
    debug = os.environ.get("NNC_DEBUG") == "1"
    try:
        status = app(args=arguments, prog_name="onnx-nnc", standalone_mode=False)
    except _UsageError as error:
        return _usage(error)
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has seen enough; keep Python from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        return _report(error)
    return status if isinstance(status, int) else 0


def _usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "onnx-nnc"
    format_message = getattr(error, "format_message", None)
    message = str(format_message() if format_message is not None else error)
    return _fail(f"{message.strip().rstrip('.')}; see {command} --help", EXIT_USER)


def _report(error: Exception) -> int:
    from nnc_codec.errors import NNRError

    if isinstance(error, NNRError):
        return _fail(str(error), error.exit_code, error.code)
    if isinstance(error, MemoryError):
        return _fail("not enough memory", EXIT_USER)
    text = " ".join(str(error).split())
    return _fail(f"internal error: {type(error).__name__}: {text}; set NNC_DEBUG=1 for the traceback", EXIT_INTERNAL)


def _fail(message: str, status: int, code: str = "") -> int:
    line = " ".join(message.split())
    typer.echo(f"error {code}: {line}" if code else f"error: {line}", err=True)
    return status
