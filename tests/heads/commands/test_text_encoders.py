"""`extract --text-encoder hf:FOLDER` reads a family rightly, or refuses it by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers as hf

from tier4k.cache.listing import stores
from tier4k.tests.builders.commands import tier
from tier4k.tests.builders.data import make_picture
from tier4k.tests.builders.text_models import encoder, text_tokenizer, write_text_folder
from tier4k.tests.builders.transformers_models import write_random_model

pytestmark = pytest.mark.usefixtures("no_hub")

READ = {
    "t5": "masked-mean",
    "t5-encoder": "masked-mean",
    "clip": "projection",
    "siglip2": "pooled",
    "roberta": "masked-mean",
    "bart": "masked-mean of the encoder",
}


def write_model(make: Callable[[], Any], folder: Path) -> None:
    write_random_model(make, folder)
    text_tokenizer().save_pretrained(folder)


def write_refused(root: Path) -> dict[str, str]:
    """Write folders that are refused; return a part of each message."""
    shape = {"vocab_size": 400, "n_layer": 1}
    write_model(lambda: hf.GPT2Model(hf.GPT2Config(n_embd=32, n_head=2, **shape)), root / "gpt2")
    xlnet = hf.XLNetConfig(d_model=32, n_head=2, d_inner=48, **shape)
    write_model(lambda: hf.XLNetModel(xlnet), root / "xlnet")
    write_model(encoder("CLIPVision", image_size=32, patch_size=16), root / "clip-vision")
    write_text_folder(root / "without-padding", "bert", pad_token=None)
    return {
        "gpt2": "language model",
        "xlnet": "language model",
        "clip-vision": "no text encoder",
        "without-padding": "no padding token",
    }


@pytest.mark.slow
def test_every_family_is_read_rightly_or_refused_and_leaves_no_store_without_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        make_picture(number).save(f"{number}.png")
    overlong = "a cat, " * 400
    Path("t.csv").write_text(f'image,prompt,mos\n0.png,"{overlong}",1\n1.png,a red fox,2\n', encoding="utf-8")
    for name, feature in READ.items():
        write_text_folder(tmp_path / "models" / name, name)
        code, output = tier("extract", "t.csv", "--text-encoder", f"hf:models/{name}", "--workers", "0")
        assert code == 0, output
        made = {store.signature.encoder: store for store in stores(Path("features"))}
        store = made[f"hf:models/{name}"]
        rows = store.read(store.keys)
        assert len(rows) == 2 and np.isfinite(rows).all()
        assert store.signature.feature == feature
    kept = {store.path for store in stores(Path("features"))}
    for name, message in write_refused(tmp_path / "models").items():
        code, output = tier("extract", "t.csv", "--text-encoder", f"hf:models/{name}", "--workers", "0")
        text = " ".join(output.split())
        assert code == 2 and message in text and f"models/{name}" in text and "Traceback" not in text
    assert {store.path for store in stores(Path("features"))} == kept
