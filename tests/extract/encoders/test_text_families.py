"""Features of texts are those that the library's own classes compute; what is no text encoder is refused."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from tier4k.extract.encoders.encoder import TextEncoder
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.from_signature import split_run_mark, text_encoder_of
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.encoders.text_pooling import TextPooling
from tier4k.extract.encoders.text_tokenizer import load_text_tokenizer
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.weights.files import MODEL_FILES, WeightsError, folder_weights
from tier4k.heads.finetuning.errors import FinetuningError
from tier4k.heads.finetuning.parameters import recompute_activations
from tier4k.tests.builders.data import make_picture
from tier4k.tests.builders.preprocessed import preprocessed
from tier4k.tests.builders.text_models import (
    MODELS,
    POSITIONS,
    TEXTS,
    encoder,
    sequence_model,
    text_tokenizer,
    write_sentence_folder,
    write_text_folder,
)
from tier4k.tests.builders.transformers_models import few_fast, write_random_model

pytestmark = pytest.mark.usefixtures("no_hub")

TOWERS = ("clip", "siglip", "siglip2")
OFFSET = ("roberta", "xlm-roberta", "mpnet")  # two positions stand before the first token's
RELATIVE = ("t5", "t5-encoder", "mt5", "umt5")
OWN_EMBEDDING = {
    "clip": hf.CLIPTextModelWithProjection,
    "clip-text": hf.CLIPTextModel,
    "clip-text-projection": hf.CLIPTextModelWithProjection,
    "siglip": hf.SiglipTextModel,
    "siglip-text": hf.SiglipTextModel,
    "siglip2": hf.Siglip2TextModel,
    "siglip2-text": hf.Siglip2TextModel,
}
ENCODERS = {
    "t5": hf.T5EncoderModel,
    "t5-encoder": hf.T5EncoderModel,
    "mt5": hf.MT5EncoderModel,
    "umt5": hf.UMT5EncoderModel,
}


def find(folder: Path, precision: Any = None) -> TextEncoder:
    return find_text_encoder(f"hf:{folder}", folders=[Path("/")], precision=precision)


def encode(network: TextNetwork, texts: list[str] = TEXTS) -> torch.Tensor:
    with torch.inference_mode():
        return network(network.tokenize(texts))


def features(folder: Path, texts: list[str] = TEXTS) -> torch.Tensor:
    return encode(load_network(find(folder)), texts)


def limit(name: str) -> int:
    """Tokens that a sample reads: its positions, or 512 where positions are relative."""
    if name in RELATIVE:
        return 512
    return POSITIONS - 2 if name in OFFSET else POSITIONS


def directly(folder: Path, name: str, text: str) -> torch.Tensor:
    """The feature (D,) of one text, by the library's own classes, without a batch."""
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    options: dict[str, Any] = {"padding": "max_length"} if name.startswith("siglip") else {}
    tokens = tokenizer(text, truncation=True, max_length=limit(name), return_tensors="pt", **options)
    tokens.pop("token_type_ids", None)
    with torch.inference_mode():
        if name in OWN_EMBEDDING:
            config = hf.AutoConfig.from_pretrained(folder)
            own = OWN_EMBEDDING[name].from_pretrained(folder, config=getattr(config, "text_config", config))
            outputs = own.eval()(**tokens)
            return getattr(outputs, "text_embeds", None)[0] if "text_embeds" in outputs else outputs[1][0]
        network = ENCODERS.get(name, hf.AutoModel).from_pretrained(folder).eval()
        if name in ("bart", "mbart"):
            network = network.get_encoder()
        return network(**tokens).last_hidden_state[0].mean(0)


@pytest.mark.parametrize("name", few_fast("roberta", "t5", "siglip2", names=MODELS))
def test_features_of_texts_are_those_of_the_library_for_short_and_overlong_texts(
    name: str, tmp_path: Path
) -> None:
    folder = write_text_folder(tmp_path / "model", name)
    expected = torch.stack([directly(folder, name, text) for text in TEXTS])
    found = features(folder)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    tokenizer = load_text_tokenizer(find(folder))
    assert tokenizer.max_tokens == limit(name)
    overlong = len(tokenizer.untruncated_ids(TEXTS[2:3])[0])
    assert overlong > POSITIONS  # so that one of the texts is truncated, where there is a limit
    texts = [TEXTS[2], TEXTS[2][:60] + " something else at the end"] if name in RELATIVE else TEXTS[1:3]
    first, second = features(folder, texts)
    assert (first - second).abs().max() > 1e-3  # the feature depends on the text


@pytest.mark.parametrize("name", few_fast("clip", names=TOWERS))
def test_both_towers_of_one_folder_are_those_of_the_whole_model(name: str, tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model", name)
    whole = hf.AutoModel.from_pretrained(folder).eval()
    picture = make_picture(0, (48, 40))
    image = find_image_encoder(ImageChoice(f"hf:{folder}"), folders=[Path("/")])
    network = load_network(image)
    pixels = hf.AutoImageProcessor.from_pretrained(folder, backend="pil")(picture, return_tensors="pt")
    options: dict[str, Any] = {"padding": "max_length", "max_length": POSITIONS} if name != "clip" else {}
    tokens = hf.AutoTokenizer.from_pretrained(folder)(TEXTS[0], return_tensors="pt", **options)
    tokens.pop("token_type_ids", None)
    with torch.inference_mode():
        image_feature = network(preprocessed(image.preprocessing, picture)[None])
        expected_image = whole.get_image_features(**pixels).pooler_output
        expected_text = whole.get_text_features(**tokens).pooler_output
    torch.testing.assert_close(image_feature, expected_image, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(features(folder, TEXTS[:1]), expected_text, rtol=1e-5, atol=1e-5)
    text = find(folder)
    assert text.signature.weights == image.signature.weights == folder_weights(folder, "", MODEL_FILES).sha256
    assert image_feature.shape[1] == expected_text.shape[1]
    assert text.signature.feature == image.signature.feature == ("projection" if name == "clip" else "pooled")


def test_of_two_towers_only_the_text_tower_is_loaded(tmp_path: Path) -> None:
    network = load_network(find(write_text_folder(tmp_path / "model", "clip")))
    assert not [name for name, _ in network.named_parameters() if "vision" in name or "visual" in name]


def test_the_tokenizer_of_a_text_tower_is_part_of_its_signature_but_not_of_its_weights(
    tmp_path: Path,
) -> None:
    folder = write_text_folder(tmp_path / "model", "clip")
    before = find(folder).signature
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"clean_up_tokenization_spaces": True}))
    after = find(folder).signature
    assert before.weights == after.weights
    assert before.preparation != after.preparation
    assert "truncated at 24 tokens" in after.preparation


@pytest.mark.parametrize("name", few_fast("clip", names=("clip", "t5-encoder", "siglip2", "mpnet", "mbart")))
def test_a_text_encoder_is_found_again_by_its_signature(name: str, tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "models" / "mine", name)
    one = find_text_encoder("hf:./models/mine/", folders=[tmp_path])
    assert one.signature.encoder == "hf:models/mine"
    assert text_encoder_of(one.signature, folders=[tmp_path]).signature == one.signature
    shutil.copytree(folder, tmp_path / "moved")
    assert text_encoder_of(one.signature, tmp_path / "moved").signature == one.signature


def test_bert_keeps_its_signature_and_other_families_name_their_class_and_limit(tmp_path: Path) -> None:
    texts = {}
    for name in ("bert", "distilbert", "deberta-v2", "roberta", "t5", "bart", "siglip-text"):
        signature = find(write_text_folder(tmp_path / name, name)).signature
        tokenizer = re.sub(" [0-9a-f]{16},", ",", signature.preparation.removeprefix("reference: its own "))
        texts[name] = signature.architecture.removeprefix("transformers "), tokenizer, signature.feature
    as_before = ("AutoModel", "tokenizer, truncated at 512 tokens", "masked-mean")
    assert texts == {
        "bert": as_before,
        "distilbert": as_before,
        "deberta-v2": as_before,
        "roberta": ("AutoModel", "tokenizer, truncated at 22 tokens", "masked-mean"),
        "t5": ("T5EncoderModel", "tokenizer, truncated at 512 tokens", "masked-mean"),
        "bart": ("BartModel", "tokenizer, truncated at 24 tokens", "masked-mean of the encoder"),
        "siglip-text": ("SiglipTextModel", "tokenizer, padded or truncated at 24 tokens", "pooled"),
    }


def test_a_roberta_of_514_positions_keeps_its_signature(tmp_path: Path) -> None:
    write_random_model(encoder("Roberta", max_position_embeddings=514), tmp_path / "model")
    text_tokenizer().save_pretrained(tmp_path / "model")
    signature = find(tmp_path / "model").signature
    assert signature.preparation == "reference: its own tokenizer, truncated at 512 tokens"
    assert (signature.architecture, signature.feature) == ("transformers AutoModel", "masked-mean")


def test_t5_reads_as_many_tokens_as_its_tokenizer_states(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model", "t5", model_max_length=20)
    found = find(folder)
    assert found.signature.preparation.endswith("truncated at 20 tokens")
    assert load_text_tokenizer(found)([TEXTS[2]]).ids.shape == (1, 20)


# Folders of sentence-transformers

SENTENCE_FOLDERS: dict[str, dict[str, Any]] = {
    "mean": {},
    "cls": {"poolings": ("cls",), "layers": ("Normalize",), "max_tokens": 12},
    "max and mean": {"poolings": ("max", "mean"), "layers": ("Dense", "Normalize")},
    "mean of roots": {"poolings": ("mean_sqrt_len_tokens",), "layers": ("Dense",), "base": "mpnet"},
    "t5": {"layers": ("Dense", "Normalize"), "base": "t5-encoder", "max_tokens": 30},
}


@pytest.mark.parametrize("name", few_fast(names=SENTENCE_FOLDERS))
def test_a_folder_of_sentence_transformers_gives_the_vectors_of_this_library(
    name: str, tmp_path: Path
) -> None:
    library = pytest.importorskip("sentence_transformers")
    folder = write_sentence_folder(tmp_path / "model", **SENTENCE_FOLDERS[name])
    model = library.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    if name == "mean of roots":
        model.max_seq_length = POSITIONS - 2  # the library forgets the positions before the first token's
    expected = model.encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(features(folder), expected, rtol=1e-5, atol=1e-5)


def test_every_pooling_leaves_out_padding() -> None:
    states = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    pooling = TextPooling(("cls", "max", "mean", "mean_sqrt_len_tokens"))
    for found, text in zip(pooling(states, mask), (states[0], states[1, :2]), strict=True):
        sums = text.sum(0)
        parts = [text[0], text.amax(0), sums / len(text), sums / len(text) ** 0.5]
        torch.testing.assert_close(found, torch.cat(parts))


def test_pooling_and_limit_of_sentence_transformers_are_in_the_signature(tmp_path: Path) -> None:
    plain = find(write_sentence_folder(tmp_path / "plain"))
    assert plain.signature.feature == "masked-mean"
    layers = {"poolings": ("cls", "mean"), "layers": ("Dense", "Normalize"), "max_tokens": 12}
    other = find(write_sentence_folder(tmp_path / "other", **layers))
    assert other.signature.feature == "sentence-transformers: cls + mean, dense 64 to 12 Tanh, normalize"
    assert other.signature.preparation.endswith("truncated at 12 tokens")
    weights = other.weights.path / "2_Dense" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert find(other.weights.path).signature.weights != other.signature.weights


def test_the_preset_minilm_stays_the_mean_without_normalization() -> None:
    encoder = find_text_encoder("minilm")
    assert (encoder.weights.path / "modules.json").exists()
    assert encoder.signature.feature == "masked-mean"
    assert encoder.signature.preparation == "reference: its own tokenizer, truncated at 512 tokens"
    own = find(encoder.weights.path)
    assert own.signature.feature == "sentence-transformers: mean, normalize"
    assert own.signature.preparation == "reference: its own tokenizer, truncated at 256 tokens"


def test_the_default_prompt_of_sentence_transformers_is_put_before_every_text(tmp_path: Path) -> None:
    folder = write_sentence_folder(tmp_path / "model")
    options = {"prompts": {"query": "a drawing of "}, "default_prompt_name": "query"}
    without = features(folder, ["a drawing of a dog"])
    (folder / "config_sentence_transformers.json").write_text(json.dumps(options))
    torch.testing.assert_close(features(folder, ["a dog"]), without)
    assert "after the prompt 'a drawing of '" in find(folder).signature.preparation


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "pools by 'lasttoken'.*pass another"),
        ("1_Pooling/config.json", {"pooling_mode_weightedmean_tokens": True}, "pools by 'weightedmean'"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "lower-cases.*set do_lower_case"),
        ("1_Pooling/config.json", {"pooling_mode": 3}, "pools by '3'"),
        (
            "config_sentence_transformers.json",
            {"default_prompt_name": "q"},
            "no prompt 'q'.*correct the name",
        ),
        (
            "config_sentence_transformers.json",
            {"prompts": ["a"], "default_prompt_name": "query"},
            "no prompt 'query'",
        ),
        ("2_Dense/config.json", {"activation_function": "mine.Snake"}, "dense layer that tier4k does not"),
        ("2_Dense/config.json", {"in_features": 64, "use_residual": True}, "dense layer that tier4k does"),
        ("2_Dense/config.json", {}, "lacks the widths"),
        ("2_Dense/config.json", {"in_features": 1e300, "out_features": 8}, "in_features = 1e.300.*at most"),
        ("modules.json", {}, "Pooling.*reads a Transformer"),
    ],
)
def test_what_sentence_transformers_does_and_tier4k_does_not_is_refused_by_name(
    tmp_path: Path, name: str, content: dict[str, Any], message: str
) -> None:
    folder = write_sentence_folder(tmp_path / "model", layers=("Dense",))
    entries = json.loads((folder / "modules.json").read_text())
    (folder / name).write_text(json.dumps(content if name != "modules.json" else entries[1:]))
    with pytest.raises((EncoderError, WeightsError), match=message) as error:
        find(folder)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("kind", ["sentence_transformers.models.LSTM", "custom.MyPooling"])
def test_an_unknown_module_of_sentence_transformers_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    folder = write_sentence_folder(tmp_path / "model", layers=("Normalize",))
    path = folder / "modules.json"
    path.write_text(path.read_text().replace("sentence_transformers.models.Normalize", kind))
    with pytest.raises(EncoderError, match=f"modules.json.*{kind.rpartition('.')[2]}.*pass another"):
        find(folder)


# What is refused


def small_language_model() -> Any:
    shape = {"vocab_size": 400, "n_positions": 64, "n_embd": 32, "n_layer": 1, "n_head": 2}
    return hf.GPT2Model(hf.GPT2Config(**shape))


def small_xlnet() -> Any:
    return hf.XLNetModel(hf.XLNetConfig(vocab_size=400, d_model=32, n_layer=1, n_head=2, d_inner=48))


def small_pegasus() -> Any:
    return sequence_model("Pegasus", encoder_layers=1, decoder_layers=1, encoder_ffn_dim=48)()


def small_vit() -> Any:
    return hf.ViTModel(hf.ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "gpt2": (small_language_model, "'gpt2'.*language model"),
    "xlnet": (small_xlnet, "'xlnet'.*language model"),
    "bert as a decoder": (encoder("Bert", is_decoder=True), "'bert'.*language model"),
    "pegasus": (small_pegasus, "'pegasus'.*encoder and a decoder"),
    "a vision model": (small_vit, "'vit'.*no text"),
}


@pytest.mark.parametrize("name", few_fast("gpt2", "bert as a decoder", names=REFUSED))
def test_a_model_that_is_no_text_encoder_is_refused_before_its_weights_are_loaded(
    name: str, tmp_path: Path
) -> None:
    make, message = REFUSED[name]
    write_random_model(make, tmp_path / "model")
    text_tokenizer().save_pretrained(tmp_path / "model")
    with pytest.raises(EncoderError, match=message + ".*pass a text encoder") as error:
        find(tmp_path / "model")
    assert str(tmp_path / "model") in str(error.value)


def test_code_in_a_folder_is_never_run(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model", "bert")
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').close()\nclass Mine: pass\n")
    path = folder / "config.json"
    known = json.loads(path.read_text()) | {"auto_map": {"AutoModel": "mine.Mine", "AutoConfig": "mine.Mine"}}
    expected = features(folder)
    path.write_text(json.dumps(known))
    torch.testing.assert_close(features(folder), expected)
    path.write_text(json.dumps(known | {"model_type": "mine"}))
    with pytest.raises(EncoderError, match="'mine'.*Python code.*never runs"):
        find(folder)
    assert not (tmp_path / "mark").exists()


def test_a_tokenizer_without_padding_token_is_refused_with_the_remedy(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model", "roberta", pad_token=None)
    with pytest.raises(WeightsError, match=f"{folder} has no padding token.*pad_token.*tokenizer_config"):
        load_network(find(folder))


def test_a_model_without_a_limit_of_tokens_is_refused(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model", "roberta")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": None}))
    with pytest.raises(EncoderError, match=f"{folder}/config.json.*states no limit of tokens.*pass a text"):
        find(folder)


def test_padding_on_the_left_does_not_change_a_feature(tmp_path: Path) -> None:
    expected = features(write_text_folder(tmp_path / "right", "bert"))
    left = write_text_folder(tmp_path / "left", "bert", padding_side="left")
    torch.testing.assert_close(features(left), expected, rtol=1e-5, atol=1e-5)


def test_a_clip_whose_tokenizer_does_not_end_texts_is_refused(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model", "clip-text")
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": None}))
    with pytest.raises(EncoderError, match=f"{folder} does not end a text with the token 3"):
        load_network(find(folder))


def test_a_text_with_a_token_that_the_network_lacks_is_named(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model", "bert")
    tokenizer = text_tokenizer()
    tokenizer.add_tokens([f"word{number}" for number in range(200)])  # the network has 400 tokens
    tokenizer.save_pretrained(folder)
    network = load_network(find(folder))
    with pytest.raises(
        EncoderError, match="'a word199'.*embeddings of 400 tokens.*pass another text encoder"
    ):
        network.tokenize(["a fox", "a word199"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", {}),
        ("tokenizer.json", {"model": {"type": "WordPiece", "vocab": {"a": 0, "<pad>": 1}}}),
        ("tokenizer.json", {"model": {"type": "WordPiece", "vocab": {"a": 0, "<pad>": 2**31}}}),
        ("tokenizer.json", {"added_tokens": [{"id": 2**31}]}),
        ("tokenizer_config.json", []),
        ("tokenizer_config.json", {"model_max_length": [1]}),
        ("config.json", {"text_config": {"vocab_size": 2**40}}),
        ("config.json", {"text_config": {"vocab_size": 5_000_000, "hidden_size": 5_000}}),
        ("config.json", {"text_config": {"num_hidden_layers": 2**31}}),
        ("config.json", {"text_config": {"hidden_size": 1e300}}),
        ("tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "unk_token": "nowhere"}),
        ("config.json", {"model_type": "clip", "text_config": []}),
    ],
)
def test_a_damaged_file_beside_the_weights_is_refused(tmp_path: Path, name: str, content: Any) -> None:
    folder = write_text_folder(tmp_path / "model", "clip")
    if isinstance(content, dict):
        content = json.loads((folder / name).read_text()) | content if content else {}
    (folder / name).write_text(json.dumps(content))
    with pytest.raises((EncoderError, WeightsError), match=str(folder)):
        load_network(find(folder))


def test_a_padding_token_behind_the_positions_is_refused(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model", "roberta")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token_id": POSITIONS}))
    with pytest.raises(
        EncoderError, match=f"{path} leaves no position for a token.*pad_token_id {POSITIONS}"
    ):
        find(folder)


def test_an_at_sign_in_the_path_of_a_folder_is_no_mark_of_a_run(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "me@site" / "bert-16", "bert")
    encoder = find(folder)
    assert text_encoder_of(encoder.signature, folders=[Path("/")]).signature == encoder.signature
    assert split_run_mark(f"{encoder.preset.name}@nr-all-quality-0") == (
        encoder.preset.name,
        "nr-all-quality-0",
    )
    assert split_run_mark("minilm@nr-all-a/b-0") == ("minilm", "nr-all-a/b-0")


def test_the_file_of_a_debertas_tokenizer_is_part_of_its_weights(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model", "deberta-v2")
    before = find(folder).weights.sha256
    (folder / "spm.model").write_bytes(b"another vocabulary")
    assert find(folder).weights.sha256 != before


def test_a_text_without_tokens_is_named(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model", "bert")
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": None}))
    network = load_network(find(folder))
    with pytest.raises(EncoderError, match="no token of the text ''"):
        network.tokenize(["a fox", ""])


class AttendsToPadding(hf.BertModel):
    def forward(self, input_ids: torch.Tensor, attention_mask: Any) -> Any:  # noqa: ARG002
        return super().forward(input_ids=input_ids, attention_mask=torch.ones_like(input_ids))


class FailsAtTheLimit(hf.BertModel):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        if input_ids.shape[1] == POSITIONS:
            raise IndexError("index out of range in self")
        return super().forward(input_ids=input_ids, attention_mask=attention_mask)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (AttendsToPadding, "other features beside a longer text.*depend on the batch"),
        (FailsAtTheLimit, f"cannot encode 1 texts of {POSITIONS} tokens .*IndexError"),
    ],
)
def test_a_network_that_fails_the_probe_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Any, message: str
) -> None:
    folder = write_text_folder(tmp_path / "model", "bert")
    monkeypatch.setattr("tier4k.extract.encoders.text_network.transformers.AutoModel", network)
    with pytest.raises(EncoderError, match=f"{network.__name__} in {folder}.*{message}"):
        load_network(find(folder))


def test_weights_with_undefined_values_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_text_folder(folder, "bert")
    model = hf.BertModel.from_pretrained(folder)
    model.state_dict()["encoder.layer.1.output.dense.bias"].fill_(torch.nan)
    model.save_pretrained(folder)
    with pytest.raises(EncoderError, match="no finite vector"):
        load_network(find(folder))


# Precision and layers

CANNOT_RECOMPUTE = ("albert", "mpnet", "bart", "mbart")
DISTINCT = (
    "t5",
    "bert",
    "distilbert",
    "albert",
    "deberta-v2",
    "mpnet",
    "umt5",
    "mbart",
    "clip",
    "siglip2-text",
)
CAN_RECOMPUTE = [name for name in DISTINCT if name not in CANNOT_RECOMPUTE]


@pytest.mark.parametrize("precision", ["fp16", pytest.param("bf16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", few_fast("t5", names=("t5", "umt5", "siglip2", "deberta-v2")))
def test_texts_in_half_precision_stay_close(name: str, precision: Any, tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model", name)
    half = load_network(find(folder, precision)).frozen(precision)
    found = encode(half)
    assert found.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found, features(folder)).min() >= 0.99
    if name == "t5":
        wo = half.backbone.encoder.block[0].layer[1].DenseReluDense.wo.weight
        assert wo.dtype == (torch.float32 if precision == "fp16" else torch.bfloat16)


def test_features_that_overflow_in_half_precision_are_refused(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model", "siglip-text")
    model = hf.SiglipTextModel.from_pretrained(folder)
    model.state_dict()["head.bias"].fill_(1e6)
    model.save_pretrained(folder)
    network = load_network(find(folder))
    with pytest.raises(EncoderError, match="fp16: pass --precision bf16 or fp32"):
        network.frozen("fp16")


@pytest.mark.parametrize("name", few_fast("t5", names=DISTINCT))
def test_layers_are_embeddings_then_blocks_and_hold_every_trained_parameter_once(
    name: str, tmp_path: Path
) -> None:
    network = load_network(find(write_text_folder(tmp_path / "model", name)))
    layers = network.layers()
    used = [parameter for layer in layers for parameter in layer]
    assert len({id(parameter) for parameter in used}) == len(used)
    blocks = 1 if name == "albert" else 2 if name in (*RELATIVE, "bart", "mbart") else 4
    assert len(layers) == (1 if name == "albert" else blocks + 1)
    network(network.tokenize(TEXTS)).square().sum().backward()
    with_gradient = {id(parameter) for parameter in network.parameters() if parameter.grad is not None}
    assert with_gradient <= {id(parameter) for parameter in used}
    last = {id(parameter) for parameter in layers[-1]}
    for ending, value in network.backbone.named_parameters():
        if re.search(r"(^|\.)(final_layer_norm|text_projection|head)\.", ending) and "layers." not in ending:
            assert id(value) in last, ending


@pytest.mark.parametrize("name", few_fast("t5", names=CAN_RECOMPUTE))
def test_recomputed_activations_give_the_same_gradients(name: str, tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model", name)
    gradients = []
    for recompute in (False, True):
        network = load_network(find(folder))
        if recompute:
            network.recompute_activations()
            for module in network.modules():
                module.training = type(module).__mro__[1].__name__ == "GradientCheckpointingLayer"
        network(network.tokenize(TEXTS)).square().sum().backward()
        found = [parameter.grad for layer in network.layers() for parameter in layer]
        gradients.append([grad for grad in found if grad is not None])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", few_fast("mpnet", names=CANNOT_RECOMPUTE))
def test_a_network_that_cannot_compute_activations_again_is_refused(name: str, tmp_path: Path) -> None:
    network = load_network(find(write_text_folder(tmp_path / "model", name)))
    with pytest.raises(FinetuningError, match="cannot compute activations again: leave out recompute"):
        recompute_activations(network)
