"""The entry point of `tier`: it registers the commands in `heads/commands/` and sets the exit codes."""

import errno
import signal
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from tier4k.cache.errors import TierError
from tier4k.cache.text import shortened
from tier4k.extract.pipeline.process_policy import process_policy
from tier4k.heads.commands import panels
from tier4k.heads.commands.compare import compare
from tier4k.heads.commands.config import CONTEXT, config
from tier4k.heads.commands.console import print_error
from tier4k.heads.commands.data import data_check
from tier4k.heads.commands.demo import demo
from tier4k.heads.commands.evaluate import evaluate
from tier4k.heads.commands.export import export_model
from tier4k.heads.commands.extract import extract
from tier4k.heads.commands.features import fused_features
from tier4k.heads.commands.fit import fit_head
from tier4k.heads.commands.groups import flattened
from tier4k.heads.commands.interruption import interruption_text
from tier4k.heads.commands.plot import plot
from tier4k.heads.commands.predict import predict
from tier4k.heads.commands.program import program
from tier4k.heads.commands.report import report
from tier4k.heads.commands.score import score
from tier4k.heads.commands.split import split
from tier4k.heads.commands.standard_streams import OutputError, lasting_output, open_closed_streams
from tier4k.heads.commands.stores import store_compact, store_export, store_gc, store_ls, store_verify
from tier4k.heads.commands.sweep import sweep
from tier4k.heads.commands.table import table
from tier4k.heads.commands.usage_errors import explain_usage
from tier4k.heads.commands.utf8_mode import restart_in_utf8_mode
from tier4k.heads.commands.weights import weights_get, weights_ls

EXIT_ERROR = 2  # an error that the user can fix

# What a user may cause, by the number of the error.
SYSTEM_ERRORS = (
    errno.EACCES,
    errno.EIO,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
)

EXIT_INTERRUPTED = 130  # Ctrl-C, or SIGTERM from a batch system


class TierGroup(TyperGroup):
    """The commands with their exit codes, each with a message: 2 for an error, 130 after Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except TierError as error:
            print_error(str(error))
            return ctx.exit(EXIT_ERROR)
        except MemoryError as error:
            print_error(
                f"the memory is too small for this command ({shortened(error)}): close other programs, use a "
                "machine with more memory, or check that no file or option states a size by mistake"
            )
            return ctx.exit(EXIT_ERROR)
        except OSError as error:
            if error.errno not in SYSTEM_ERRORS:
                explain_usage(error)
                raise
            print_error(f"{shortened(error, 600)}: fix the cause, and run the command again")
            return ctx.exit(EXIT_ERROR)
        except KeyboardInterrupt as interruption:
            print_error(interruption_text(interruption))
            return ctx.exit(EXIT_INTERRUPTED)
        except Exception as error:
            explain_usage(error)
            raise


app = typer.Typer(
    name="tier",
    cls=TierGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(program)
data_app = typer.Typer(help="Check data sets.", no_args_is_help=True)
store_app = typer.Typer(help="List, check, clean up and export feature stores.", no_args_is_help=True)
weights_app = typer.Typer(help="List and download the weights of encoders.", no_args_is_help=True)

data_app.command("check")(flattened(data_check))

store_app.command("ls")(flattened(store_ls))
store_app.command("verify")(flattened(store_verify))
store_app.command("compact")(flattened(store_compact))
store_app.command("gc")(flattened(store_gc))
store_app.command("export")(flattened(store_export))

weights_app.command("ls")(flattened(weights_ls))
weights_app.command("get")(flattened(weights_get))

# In the order of the help.
app.add_typer(data_app, name="data", rich_help_panel=panels.STAGE_1)
app.command("extract", rich_help_panel=panels.STAGE_1)(flattened(extract))
app.add_typer(store_app, name="store", rich_help_panel=panels.STAGE_1)
app.add_typer(weights_app, name="weights", rich_help_panel=panels.STAGE_1)

app.command("fit-head", rich_help_panel=panels.STAGE_2)(flattened(fit_head))
app.command("sweep", rich_help_panel=panels.STAGE_2)(flattened(sweep))
app.command("score", rich_help_panel=panels.STAGE_2)(flattened(score))
app.command("split", rich_help_panel=panels.STAGE_2)(flattened(split))
app.command("features", rich_help_panel=panels.STAGE_2)(flattened(fused_features))

app.command("table", rich_help_panel=panels.RESULTS)(flattened(table))
app.command("compare", rich_help_panel=panels.RESULTS)(flattened(compare))
app.command("report", rich_help_panel=panels.RESULTS)(flattened(report))
app.command("plot", rich_help_panel=panels.RESULTS)(flattened(plot))

app.command("predict", rich_help_panel=panels.USE)(flattened(predict))
app.command("evaluate", rich_help_panel=panels.USE)(flattened(evaluate))
app.command("export", rich_help_panel=panels.USE)(flattened(export_model))

app.command("demo", rich_help_panel=panels.MORE)(flattened(demo))
app.command("config", rich_help_panel=panels.MORE, context_settings=CONTEXT)(config)


def main() -> None:
    """Run `tier`.

    Batch systems send SIGTERM before they kill a process. It ends a command as Ctrl-C does: finished work is
    saved. What a command prints to never makes it fail (`standard_streams`).
    """
    open_closed_streams()
    restart_in_utf8_mode()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with lasting_output(), process_policy():
            app()
    except OutputError as error:
        print_error(str(error))
        sys.exit(EXIT_ERROR)


if __name__ == "__main__":
    main()
