"""Record what today's code writes, for all later versions: `python -m tier4k.tests.compatibility.record`.

It writes stores, runs and an exported model, made from small images that follow from formulas. Files of a
format that is recorded already stay as they are: run this after a format number was raised, and commit what
is new. tests/data/compatibility/ then has one folder for each format:

    stores-2/     stores of format 2, with the record of the data set
    run-6/        runs of run format 6
    model-3/      an exported model of format 3, without the files of its encoders

Each folder has a `values.json`: what its files hold, as read when they were written.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from tier4k.tests.builders.commands import succeed
from tier4k.tests.builders.data import table_rows, write_state, write_table
from tier4k.tests.builders.text_models import write_text_folder
from tier4k.tests.compatibility.values import FORMATS, VALUES_FILE, VALUES_OF, folder_of

ROWS = 20

PARTS = {
    "stores": ("features", ["*-*", "datasets"]),
    "run": ("runs", ["*"]),
    "model": ("model", ["config.json", "model.safetensors"]),
}
"""For each kind: the folder in which the commands write it, and the patterns of what is recorded."""


def main() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.argv[:] = ["tier"]  # runs record the command line
    missing = [name for name in FORMATS if not folder_of(name).exists()]
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        if missing:
            make_all()
        for name in missing:
            sys.stdout.write(f"{record(name)}\n")


def make_all() -> None:
    """Extract, fit and export in the working directory, by the public commands."""
    scores = np.linspace(1, 5, ROWS)
    names = [f"{('MJ', 'SD', 'DALLE')[row % 3]}_{row}.png" for row in range(ROWS)]
    prompts = [f"prompt {row // 2}" for row in range(ROWS)]
    write_table(Path("data.csv"), table_rows(names, prompt=prompts, mos=scores, beauty=scores[::-1] ** 2))
    write_state("test_resnet", Path("test_resnet.pth"))
    write_text_folder(Path("bert"), "bert")
    image = ["--image-encoder", "timm:test_resnet"]
    both = [*image, "--text-encoder", "hf:bert"]
    weights = ["--image-weights", "test_resnet.pth"]
    succeed("extract", "data.csv", *both, *weights)
    fit = ["fit-head", "data.csv", *both, "--split", "prompt", "--repeats", "2"]
    succeed(*fit, "--head", "ridge", "--target", "mos")
    succeed(*fit, "--head", "mlp", "--target", "beauty", "--epochs", "2", "--set", "hidden=2")
    (ridge,) = Path("runs").glob("*ridge*")
    succeed("export", str(ridge), "model", *weights)
    crops = ["--crops", "2", "--store-dtype", "float16", "--streams", "image"]
    succeed("extract", "data.csv", *image, *weights, *crops)


def record(name: str) -> Path:
    """Copy what the commands wrote, write its values beside it, and return the folder."""
    source, patterns = PARTS[name]
    folder = folder_of(name)
    folder.mkdir(parents=True)
    for path in [path for pattern in patterns for path in Path(source).glob(pattern)]:
        copy = shutil.copytree if path.is_dir() else shutil.copyfile
        copy(path, folder / path.name)
    values = json.dumps(VALUES_OF[name](folder), indent=1)
    (folder / VALUES_FILE).write_text(values + "\n", encoding="utf-8")
    return folder


if __name__ == "__main__":
    main()
