"""The entry point of `tier`: it registers the commands in `heads/commands/` and sets the exit codes."""

import signal
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from tier4k.cache.errors import TierError
from tier4k.cache.text import shortened
from tier4k.extract.pipeline.process_policy import process_policy
from tier4k.heads.commands.compare import compare
from tier4k.heads.commands.console import print_error
from tier4k.heads.commands.data import data_check
from tier4k.heads.commands.demo import demo
from tier4k.heads.commands.evaluate import evaluate
from tier4k.heads.commands.export import export_model
from tier4k.heads.commands.extract import extract
from tier4k.heads.commands.features import fused_features
from tier4k.heads.commands.fit import fit_head
from tier4k.heads.commands.groups import flattened
from tier4k.heads.commands.predict import predict
from tier4k.heads.commands.report import report
from tier4k.heads.commands.score import score
from tier4k.heads.commands.split import split
from tier4k.heads.commands.standard_streams import OutputError, lasting_output, open_closed_streams
from tier4k.heads.commands.stores import store_compact, store_export, store_gc, store_ls, store_verify
from tier4k.heads.commands.sweep import sweep
from tier4k.heads.commands.table import table
from tier4k.heads.commands.utf8_mode import restart_in_utf8_mode
from tier4k.heads.commands.weights import weights_get, weights_ls

EXIT_ERROR = 2  # an error that the user can fix

EXIT_INTERRUPTED = 130  # Ctrl-C, or SIGTERM from a batch system


class TierGroup(TyperGroup):
    """The commands with their exit codes: 2 for a TierError, 130 after Ctrl-C, each with a message."""

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
        except KeyboardInterrupt:
            print_error(
                "the command was interrupted. Finished work is stored, also finished epochs of --finetune: "
                "run the same command again, and it does the rest."
            )
            return ctx.exit(EXIT_INTERRUPTED)


app = typer.Typer(
    name="tier",
    cls=TierGroup,
    help="Score AI-generated images as people do: extract features once, then fit TIER heads in seconds.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Check data sets.", no_args_is_help=True)
store_app = typer.Typer(help="List, check, clean up and export feature stores.", no_args_is_help=True)
weights_app = typer.Typer(help="List and download the weights of the known encoders.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(store_app, name="store")
app.add_typer(weights_app, name="weights")

data_app.command("check")(flattened(data_check))

store_app.command("ls")(store_ls)
store_app.command("verify")(store_verify)
store_app.command("compact")(store_compact)
store_app.command("gc")(store_gc)
store_app.command("export")(store_export)

weights_app.command("ls")(weights_ls)
weights_app.command("get")(weights_get)

app.command("extract")(flattened(extract))
app.command("fit-head")(flattened(fit_head))
app.command("split")(flattened(split))
app.command("predict")(flattened(predict))
app.command("evaluate")(flattened(evaluate))
app.command("export")(flattened(export_model))
app.command("score")(flattened(score))
app.command("sweep")(flattened(sweep))
app.command("table")(table)
app.command("compare")(compare)
app.command("report")(report)
app.command("features")(flattened(fused_features))
app.command("demo")(demo)


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
