"""The section "How to reproduce" of the report page."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tier4k.heads.reporting.labels import label
from tier4k.heads.reporting.report_run import ReportRun, RunFolder
from tier4k.heads.reporting.run_settings import NONE_MEANS, RunSettings


@dataclass
class Command:
    """A command that made folders of a run, and the versions of the software.

    Attributes:
        text: The command line, "" where none was recorded.
        python: Version of Python.
        versions: Versions of the libraries.
        folders: Folders of the run that the command made.
    """

    text: str
    python: str
    versions: Mapping[str, str]
    folders: list[RunFolder] = field(default_factory=list)

    @property
    def finished(self) -> str:
        """Time at which the last folder was finished, "" where none was recorded."""
        return max(folder.settings.finished for folder in self.folders)

    @property
    def seconds(self) -> float:
        """Seconds of fitting, of all folders together."""
        seconds = 0.0
        for folder in self.folders:
            seconds += folder.settings.seconds
        return seconds


@dataclass(frozen=True)
class Reproduction:
    """How to make a run again.

    Attributes:
        run: The run to make again.
        commands: The commands that made the folders of the run.
        signatures: Fields of the signature of each store.
        stores: Name of the folder of each store.
        head_options: Options of the head, as JSON.
        finetuning: Options of end-to-end training, as JSON.
        result: Title of the selection that is the run's result.
    """

    run: ReportRun
    commands: list[Command]
    signatures: Mapping[str, Mapping[str, Any]]
    stores: Mapping[str, str]
    head_options: Mapping[str, str]
    finetuning: Mapping[str, str]
    result: str


def reproduction(run: ReportRun) -> Reproduction:
    """Collect the commands, stores and options that make a run again."""
    settings = run.settings
    return Reproduction(
        run=run,
        commands=_commands(run),
        signatures={name: asdict(signature) for name, signature in settings.signatures.items()},
        stores={name: signature.folder_name for name, signature in settings.signatures.items()},
        head_options=_as_json(settings.head_options),
        finetuning=_as_json(settings.finetuning),
        result=label(run.results, run.results.headline),
    )


def _commands(run: ReportRun) -> list[Command]:
    """Return the distinct commands that made a run's folders."""
    commands: dict[str, Command] = {}
    for folder in run.folders:
        settings = folder.settings
        command = Command(_command_line(settings), settings.python, settings.versions)
        key = json.dumps([command.text, command.python, command.versions], sort_keys=True)
        commands.setdefault(key, command).folders.append(folder)
    return list(commands.values())


def _command_line(settings: RunSettings) -> str:
    """Return the command line without the path of the program; "" where none was recorded."""
    if not settings.command:
        return ""
    return shlex.join(["tier", *settings.command[1:]])


def _as_json(values: Mapping[str, Any]) -> dict[str, str]:
    texts = {}
    for name, value in values.items():
        is_named = value is None and name in NONE_MEANS
        texts[name] = NONE_MEANS[name] if is_named else json.dumps(value)
    return texts
