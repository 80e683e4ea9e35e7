"""Which commands read which files of the project."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tier4k.tests.fuzz.material import ENCODERS, IMAGE, STORED_ENCODERS

STORED = ["data", "features", "text", "weights", "settings"]
RUNS = [*STORED, "runs", "packages"]

Command = Sequence[str]

NEW = ["-F", "new", "--workers", "0"]


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
    """

    name: str
    pattern: str
    needs: Sequence[str]
    commands: Sequence[Command]
    weight: float = 1.0
    code: int = 0


GIVEN: list[Command] = [
    ["table", "runs/given", "-o", "new.parquet"],
    ["report", "runs/given", "-o", "new.html", "--pictures", "3"],
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
        ["report", run, "-o", "new.html", "--pictures", "3"],
        ["predict", run, "data/table.csv", *IMAGE[2:], "-o", "new.csv"],
        ["evaluate", run, "data/table.csv", "--out", "new", *IMAGE[2:]],
        ["export", run, "new", *IMAGE[2:]],
        ["store", "gc", "--runs", "runs"],
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
    ["data", "check", "{file}"],
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
            ["data", "check", "data/table.csv", "--decode"],
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
    Kind("layout of JSON", "evalmuse/*.json", ["evalmuse"], [["data", "check", "evalmuse"]]),
    Kind("layout of parts", "aigiqa20k/*.csv", ["aigiqa20k"], [["data", "check", "aigiqa20k"]], 0.5),
    Kind(
        "MATLAB file", "aigciqa2023/DATA/*/*.mat", ["aigciqa2023"], [["data", "check", "aigciqa2023"]], code=2
    ),
    Kind(
        "prompt workbook",
        "aigciqa2023/*.xlsx",
        ["aigciqa2023"],
        [["data", "check", "aigciqa2023"]],
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
        Kind(f"run {name}", f"runs/{name}/*", RUNS, _readers_of_run(name), 1.5)
        for name in ("ridge", "mlp", "own")
    ),
    Kind("run given", "runs/given/*", RUNS, GIVEN),
    Kind(
        "exported model",
        "exported/**/*",
        ["data", "exported", "settings"],
        [
            ["predict", "exported", "data/table.csv", "-F", "new", "-o", "new.csv"],
            ["export", "exported", "new"],
        ],
        1.5,
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
    """One input: a damaged file and the command that reads it."""

    seed: int
    kind: Kind
    file: Path
    command: tuple[str, ...]


def draw(
    seed: int,
    project: Path,
    kinds: Sequence[Kind] = KINDS,
) -> tuple[Case, random.Random]:
    """Return the case of a seed, and the state of chance after it, which the damage continues."""
    chance = random.Random(seed)
    kind = chance.choices(kinds, [kind.weight for kind in kinds])[0]
    files = sorted(path for path in project.glob(kind.pattern) if path.is_file())
    file = chance.choice(files).relative_to(project)
    command = tuple(with_file(chance.choice(kind.commands), file))
    return Case(seed, kind, file, command), chance


def with_file(command: Command, file: Path) -> list[str]:
    """Return a command with the path of a file in its place."""
    return [part.replace("{file}", str(file)).replace("{folder}", str(file.parent)) for part in command]
