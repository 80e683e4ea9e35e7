"""Which commands read which files of the project."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tier4k.tests.fuzz.material import ENCODERS, IMAGE, STORED_ENCODERS

STORED = ["data", "features", "text", "weights", "settings"]
RUNS = [*STORED, "runs", "packages"]

Command = Sequence[str]

NEW = ["-F", "new", "--workers", "0"]

TURNS = 8
"""Twice the largest weight of a kind, or more."""


@dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes:
        name: What they are.
        pattern: Glob of the files in the project.
        needs: Folders of the project that the commands need.
        commands: Commands that read them; `{file}` stands for the path of the file, `{folder}` for its
            folder.
        weight: How often the kind is drawn, relative to others.
        code: Exit code of the commands on the well-formed files.
        is_closed: Whether the commands must not follow links out of the folder.
        digests_in: File of the project with the SHA-256 of the files; most often the damaged file's is put
            there, so that the damage is not noticed by it.
    """

    name: str
    pattern: str
    needs: Sequence[str]
    commands: Sequence[Command]
    weight: float = 1.0
    code: int = 0
    is_closed: bool = False
    digests_in: str = ""

    def files(self, project: Path) -> list[Path]:
        """Return the files of this kind, sorted."""
        return sorted(path for path in project.glob(self.pattern) if path.is_file())


SMALL_TOKENIZER = ["--text-encoder", "hf:text"]
CHECK = ["data", "check", "{file}", *SMALL_TOKENIZER]
"""The default tokenizer would be searched in large files."""

GIVEN: list[Command] = [
    ["table", "runs/given", "-o", "new.parquet"],
    ["report", "runs/given", "-o", "new.html"],
    ["predict", "runs/given", "data/table.csv", "-o", "new.csv"],
    ["compare", "runs/given", "runs/given"],
    ["store", "gc", "--runs", "runs"],
]


def _readers_of_run(name: str) -> list[Command]:
    run = f"runs/{name}"
    return [
        ["table", run, "-o", "new.parquet"],
        ["table", run, "--by", "generator"],
        ["compare", run, "runs/mlp"],
        ["plot", run, "-o", "new.svg"],
        ["report", run, "-o", "new.html"],
        ["predict", run, "data/table.csv", *IMAGE[2:], "-o", "new.csv"],
        ["evaluate", run, "data/table.csv", "--out", "new", *IMAGE[2:]],
        ["export", run, "new", *IMAGE[2:]],
        ["store", "gc", "--runs", "runs"],
    ]


TUNED: list[Command] = [
    ["table", "runs/tuned", "-o", "new.parquet"],
    ["report", "runs/tuned", "-o", "new.html"],
    ["plot", "runs/tuned", "-o", "new.svg"],
    ["store", "gc", "--runs", "runs"],
    ["predict", "runs/tuned", "data/table.csv", "-F", "new", "-o", "new.csv"],
    ["extract", "data/table.csv", "--finetuned", "runs/tuned", *NEW],
    ["export", "runs/tuned", "new"],
]

CURVES: list[Command] = [
    ["report", "runs/mlp", "-o", "new.html"],
    ["plot", "runs/mlp", "-o", "new.svg"],
    ["table", "runs/tuned"],
]

SCORER: list[Command] = [
    ["score", "data/table.csv", "--scorer", "clipscore", "--weights", "scorer", "-F", "new", "--out", "new"],
]

OPTIONS: list[Command] = [
    ["fit-head", "--config", "{file}"],
    ["predict", "--config", "{file}"],
    ["store", "gc", "--config", "{file}"],
    ["config", "fit-head", "--config", "{file}"],
]

STORE_COMMANDS: list[Command] = [
    ["store", "ls"],
    ["store", "verify"],
    ["store", "verify", "--repair"],
    ["store", "compact"],
    ["store", "gc", "--delete", "--older-than", "0"],
    ["fit-head", "data/table.csv", *STORED_ENCODERS, "--head", "ridge", "--repeats", "1", "--out", "new"],
    ["features", "data/table.csv", *STORED_ENCODERS, "-o", "new.npz"],
    ["extract", "data/table.csv", *ENCODERS, "--workers", "0"],
]

TABLE_COMMANDS: list[Command] = [
    CHECK,
    ["features", "{file}", *STORED_ENCODERS, "-o", "new.npz", "--on-error", "skip"],
    [
        "fit-head",
        "{file}",
        *STORED_ENCODERS,
        "--head",
        "ridge",
        "--repeats",
        "1",
        "--out",
        "new",
        "--on-error",
        "skip",
    ],
    ["extract", "{file}", *ENCODERS, "--workers", "0", "--on-error", "skip"],
    ["split", "{file}", "-o", "new.json"],
]

NETWORK_COMMANDS: list[Command] = [
    [
        "extract",
        "data/table.csv",
        "--image-encoder",
        "timm:test_resnet",
        "--image-weights",
        "{file}",
        "--streams",
        "image",
        *NEW,
    ],
]


def _text(name: str) -> Kind:
    command = ["extract", "data/table.csv", "--text-encoder", f"hf:{name}", "--streams", "text", *NEW]
    return Kind(f"text encoder {name}", f"{name}/**/*", ["data", name], [command])


KINDS: tuple[Kind, ...] = (
    Kind("table of text", "data/table.[ct]sv", STORED, TABLE_COMMANDS, 2),
    Kind("table of JSON", "data/table.json*", STORED, TABLE_COMMANDS, 2),
    Kind("workbook", "data/table.xlsx", STORED, TABLE_COMMANDS, 3),
    Kind("Parquet table", "data/table.parquet", STORED, TABLE_COMMANDS, 2),
    Kind(
        "image",
        "data/*.[pjwg]*",
        STORED,
        [
            ["data", "check", "data/table.csv", "--decode", *SMALL_TOKENIZER],
            ["extract", "data/table.csv", *IMAGE, *NEW, "--streams", "image"],
        ],
        1,
    ),
    Kind(
        "tar archive",
        "forms/samples.tar",
        ["forms", *STORED],
        [["extract", "{file}", *IMAGE, "--text-encoder", "hf:text", *NEW], ["data", "check", "{file}"]],
        2,
    ),
    Kind(
        "Parquet of images",
        "forms/images.parquet",
        ["forms", *STORED],
        [["extract", "{file}", *IMAGE, "--text-encoder", "hf:text", *NEW], ["data", "check", "{file}"]],
        1,
    ),
    Kind(
        "saved data set",
        "forms/saved/*",
        ["forms", *STORED],
        [["extract", "{folder}", *IMAGE, "--text-encoder", "hf:text", *NEW], ["data", "check", "{folder}"]],
        1,
    ),
    Kind(
        "layout of JSON",
        "evalmuse/*.json",
        ["evalmuse", "text"],
        [["data", "check", "evalmuse", *SMALL_TOKENIZER]],
    ),
    Kind(
        "layout of parts",
        "aigiqa20k/*.csv",
        ["aigiqa20k", "text"],
        [["data", "check", "aigiqa20k", *SMALL_TOKENIZER]],
        0.5,
    ),
    Kind(
        "MATLAB file",
        "aigciqa2023/DATA/*/*.mat",
        ["aigciqa2023", "text"],
        [["data", "check", "aigciqa2023", *SMALL_TOKENIZER]],
        code=2,
    ),
    Kind(
        "prompt workbook",
        "aigciqa2023/*.xlsx",
        ["aigciqa2023", "text"],
        [["data", "check", "aigciqa2023", *SMALL_TOKENIZER]],
        0.5,
        code=2,
    ),
    Kind(
        "grid",
        "settings/grid.toml",
        STORED,
        [["sweep", "data/table.csv", "--grid", "{file}", "--out", "new", "-o", "new.csv"]],
        2,
    ),
    Kind(
        "templates",
        "settings/templates.toml",
        ["data", "clip", "settings"],
        [
            [
                "extract",
                "data/table.csv",
                "--encoder",
                "hf:clip",
                "--templates",
                "{file}",
                *NEW,
                "--streams",
                "text",
            ]
        ],
    ),
    Kind(
        "splits",
        "settings/splits.json",
        STORED,
        [
            [
                "fit-head",
                "data/table.csv",
                *STORED_ENCODERS,
                "--split",
                "{file}",
                "--head",
                "ridge",
                "--out",
                "new",
            ],
            [
                "fit-head",
                "data/table.csv",
                *STORED_ENCODERS,
                "--split",
                "{file}",
                "--epochs",
                "1",
                "--set",
                "hidden=2",
                "--out",
                "new",
            ],
            ["split", "data/table.csv", "--split", "{file}", "-o", "new.json"],
        ],
        2,
    ),
    Kind("prompts", "prompted/*", RUNS, [["predict", "runs/ridge", "prompted", *IMAGE[2:], "-o", "new.csv"]]),
    Kind(
        "scores",
        "settings/scores.*",
        STORED,
        [["score", "data/table.csv", "--scores", "{file}", "--name", "given", "--out", "new"]],
    ),
    Kind(
        "predictions of predict",
        "settings/predicted.parquet",
        RUNS,
        [["predict", "runs/ridge", "data/table.csv", *IMAGE[2:], "-o", "{file}"]],
    ),
    *(
        Kind(f"run {name}", f"runs/{name}/*.[cjs]*", RUNS, _readers_of_run(name), 2, is_closed=True)
        for name in ("ridge", "mlp", "own")
    ),
    Kind(
        "estimator",
        "runs/own/heads/*.skops",
        RUNS,
        [
            ["predict", "runs/own", "data/table.csv", *IMAGE[2:], "-o", "new.csv"],
            ["evaluate", "runs/own", "data/table.csv", "--out", "new", *IMAGE[2:]],
            ["export", "runs/own", "new", *IMAGE[2:]],
        ],
        3,
        is_closed=True,
        digests_in="runs/own/model.json",
    ),
    Kind("run given", "runs/given/*", RUNS, GIVEN, is_closed=True),
    Kind("finetuned run", "runs/tuned/*.*", RUNS, TUNED, 1.5, is_closed=True),
    Kind("finetuned encoder", "runs/tuned/*/**/*", RUNS, TUNED[-3:], 1.5, is_closed=True),
    Kind("curves", "runs/*/curves.csv", RUNS, CURVES, 0.5, is_closed=True),
    Kind("scorer", "scorer/*", ["scorer", "data"], SCORER),
    Kind("options", "settings/options.toml", RUNS, OPTIONS, 2),
    Kind(
        "exported model",
        "exported/**/*",
        ["data", "exported", "settings"],
        [
            ["predict", "exported", "data/table.csv", "-F", "new", "-o", "new.csv"],
            ["export", "exported", "new"],
        ],
        1.5,
        is_closed=True,
    ),
    Kind("signature", "features/*/signature.json", RUNS, STORE_COMMANDS),
    Kind("shard", "features/*/*.h5", RUNS, STORE_COMMANDS, 3),
    Kind("record", "features/datasets/*/*", RUNS, STORE_COMMANDS, 2),
    Kind("hashes", "features/hashes/*", RUNS, STORE_COMMANDS),
    Kind("last extraction", "features/extract.json", RUNS, STORE_COMMANDS, 0.3),
    Kind("plan", "planned/datasets/*/*", ["planned", *STORED], [["extract", "{folder}", *ENCODERS, *NEW]]),
    Kind("weights", "weights/net.[ps]*", STORED, NETWORK_COMMANDS, 2),
    Kind(
        "sharded weights",
        "sharded/*",
        ["data", "sharded"],
        [
            [
                "extract",
                "data/table.csv",
                "--image-encoder",
                "timm:test_resnet",
                "--image-weights",
                "sharded",
                "--streams",
                "image",
                *NEW,
            ]
        ],
    ),
    _text("text"),
    _text("t5"),
    _text("sentence"),
    Kind(
        "checkpoint of two towers",
        "clip/*",
        ["data", "clip"],
        [["extract", "data/table.csv", "--encoder", "hf:clip", *NEW]],
        2,
    ),
)


@dataclass(frozen=True)
class Case:
    """One input: a damaged file and the command that reads it.

    Attributes:
        seed: Decides everything else.
        kind: Kind of the file.
        file: Its path in the project.
        command: The command.
        original: Path of the well-formed file, if the damaged one has another name.
    """

    seed: int
    kind: Kind
    file: Path
    command: tuple[str, ...]
    original: Path


def draw(
    seed: int,
    project: Path,
    kinds: Sequence[Kind] = KINDS,
) -> tuple[Case, random.Random]:
    """Return the case of a seed, and the state of chance after it, which the damage continues.

    Consecutive seeds go through all kinds, as often as their weights say.
    """
    chance = random.Random(seed)
    turns = [kind for turn in range(TURNS) for kind in kinds if turn < kind.weight * 2]
    kind = turns[seed % len(turns)]
    file = chance.choice(kind.files(project)).relative_to(project)
    command = tuple(with_file(chance.choice(kind.commands), file))
    return Case(seed, kind, file, command, file), chance


def with_file(command: Command, file: Path) -> list[str]:
    """Return a command with the path of a file in its place."""
    return [part.replace("{file}", str(file)).replace("{folder}", str(file.parent)) for part in command]


def renamed(case: Case, chance: random.Random) -> Case:
    """Return a case whose file, and where the command names it, has a name that is hard to print."""
    stem = chance.choice(("a\nb", "\x1b[31mred", "-o", "é\u202e", "a b'\"c", "n" * 200, "\udcff", "%s{0}[b]"))
    file = case.file.with_name(stem + case.file.suffix)
    command = tuple(part.replace(str(case.file), str(file)) for part in case.command)
    return replace(case, file=file, command=command)
