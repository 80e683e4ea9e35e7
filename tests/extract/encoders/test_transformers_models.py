"""Features of vision models of transformers are those that the library itself computes."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from PIL import Image

from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.find import find_image_encoder
from tier4k.extract.encoders.from_signature import image_encoder_of
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.images.crops import Crops
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.weights.files import MODEL_FILES, WeightsError, folder_weights
from tier4k.tests.builders.data import make_picture
from tier4k.tests.builders.preprocessed import preprocessed, random_crops_of
from tier4k.tests.builders.transformers_models import BLOCKS, CROPPED, GRID, few_fast, write_vision_folder

pytestmark = pytest.mark.usefixtures("no_hub")

CLASSES = {
    "clip": hf.CLIPVisionModelWithProjection,
    "siglip": hf.SiglipVisionModel,
    "siglip2": hf.Siglip2VisionModel,
}
# Tokens before the patches: class token, then registers or a distillation token.
PREFIX = {
    "clip": 1,
    "siglip": 0,
    "siglip2": 0,
    "dinov2": 1,
    "dinov2_with_registers": 4,
    "dinov3_vit": 4,
    "vit": 1,
    "deit": 2,
    "beit": 1,
}
WITHOUT_CLASS_TOKEN = ("siglip", "siglip2")
LAST_CLASS_TOKEN = ("vit", "deit")


class OnDemand(dict[str, Any]):
    """Makes what belongs to a name when it is first asked for."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, name: str) -> Any:
        self[name] = self.make(name)
        return self[name]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return OnDemand(lambda name: write_vision_folder(root / name, name))


def find(folder: Path, **options: Any) -> ImageEncoder:
    return find_image_encoder(ImageChoice(f"hf:{folder}", **options), folders=[Path("/")])


@pytest.fixture(scope="module")
def encoders(folders: dict[str, Path]) -> dict[str, ImageEncoder]:
    return OnDemand(lambda name: find(folders[name]))


def whole(encoder: ImageEncoder, size: Any) -> ImageEncoder:
    """The encoder with --image-size."""
    return replace(encoder, preprocessing=encoder.preset.preprocessing(None, size))


def theirs(folder: Path) -> Any:
    name = folder.name
    model_class = CLASSES.get(name, hf.AutoModel)
    return model_class.from_pretrained(folder).eval()


def pooled(name: str, outputs: Any) -> torch.Tensor:
    if name == "clip":
        return outputs.image_embeds
    if name in LAST_CLASS_TOKEN:
        return outputs.last_hidden_state[:, 0]
    return outputs.pooler_output.flatten(1)


def statistics(
    name: str,
    outputs: Any,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Class token, mean and deviation of four blocks; mean and deviation of every stage."""
    parts = []
    if name in PREFIX:
        for block in (1, 2, 3, 4):
            tokens = outputs.hidden_states[block]
            patches = tokens[:, PREFIX[name] :]
            if mask is not None:
                patches = patches[:, mask[0].bool()]
            if name not in WITHOUT_CLASS_TOKEN:
                parts.append(tokens[:, 0])
            parts += [patches.mean(1), patches.std(1, correction=0)]
        return torch.cat(parts, 1)
    maps = getattr(outputs, "reshaped_hidden_states", None) or outputs.hidden_states
    for stage in maps[1:]:
        parts += [stage.mean((2, 3)), stage.std((2, 3), correction=0)]
    return torch.cat(parts, 1)


def processed(folder: Path, image: Image.Image) -> dict[str, torch.Tensor]:
    processor = hf.AutoImageProcessor.from_pretrained(folder, backend="pil")
    return dict(processor(images=image, return_tensors="pt"))


def ours(encoder: ImageEncoder, image: Image.Image) -> torch.Tensor:
    with torch.inference_mode():
        return load_network(encoder)(preprocessed(encoder.preprocessing, image)[None])


def assert_near(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("name", few_fast("clip", "siglip2", "dinov3_vit", "vit", "swin", "resnet"))
def test_features_are_those_of_the_library_with_its_own_processor(
    folders: dict[str, Path], encoders: dict[str, ImageEncoder], name: str
) -> None:
    encoder, image = encoders[name], make_picture(1, (61, 47))
    inputs = processed(folders[name], image)
    with torch.inference_mode():
        outputs = theirs(folders[name])(**inputs, output_hidden_states=True)
        levels = statistics(name, outputs, inputs.get("pixel_attention_mask"))
    # DINOv3's processor does not round to grey levels.
    tolerance = 2e-2 if "dinov3" in name else 1e-5
    assert_near(ours(encoder, image), pooled(name, outputs), tolerance)
    found = ours(replace(encoder, feature="multilevel"), image)
    assert_near(found, levels, tolerance)
    assert encoder.preset.require_levels().width == found.shape[1]
    assert encoder.signature.architecture.startswith("transformers ")
    assert encoder.signature.preparation_name == "native"
    assert encoder.signature.feature == ("projection" if name == "clip" else "pooled")


def their_inputs(
    name: str,
    normalised: torch.Tensor,
) -> dict[str, Any]:
    """Arguments of the library for images of any size; a patch has 8 x 8 pixels."""
    if name in ("clip", "siglip", "vit", "deit", "beit", "swin", "swinv2"):
        return {"pixel_values": normalised, "interpolate_pos_encoding": True}
    if name != "siglip2":
        return {"pixel_values": normalised}
    rows, columns = normalised.shape[2] // 8, normalised.shape[3] // 8
    patches = normalised.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 4, 5, 1)
    return {
        "pixel_values": patches.reshape(1, rows * columns, 8 * 8 * 3),
        "pixel_attention_mask": torch.ones(1, rows * columns, dtype=torch.int64),
        "spatial_shapes": torch.tensor([[rows, columns]]),
    }


@pytest.mark.parametrize("name", few_fast("clip", "siglip2", "swin"))
def test_whole_images_of_any_shape_are_encoded_as_the_library_does(
    folders: dict[str, Path], encoders: dict[str, ImageEncoder], name: str
) -> None:
    encoder, image = whole(encoders[name], 72), make_picture(2, (147, 90))
    pixels = preprocessed(encoder.preprocessing, image)[None]
    assert tuple(pixels.shape[2:]) == (72, 120 if name in PREFIX else 117)
    network = load_network(replace(encoder, feature="multilevel"))
    inputs = their_inputs(name, (pixels.float() / 255 - network.mean) / network.std)
    with torch.inference_mode():
        outputs = theirs(folders[name])(**inputs, output_hidden_states=True)
        assert_near(network(pixels), statistics(name, outputs))
        assert_near(ours(encoder, image), pooled(name, outputs))
    assert encoder.signature.preparation_name == "native at 72"
    patch = ", sides multiples of 8" if name in PREFIX else ""
    scaled = f"shorter side 72 {encoder.preprocessing.interpolation}, no crop{patch}"
    assert scaled in str(encoder.preprocessing)


@pytest.mark.parametrize(
    "name", few_fast("clip", "vit", names=("clip", "siglip", "vit", "dinov2", "beit", "dinov3_vit"))
)
def test_whole_images_of_the_native_size_get_the_models_own_positions(
    folders: dict[str, Path], encoders: dict[str, ImageEncoder], name: str
) -> None:
    encoder = whole(encoders[name], 32)
    pixels = preprocessed(encoder.preprocessing, make_picture(3, (32, 32)))[None]
    network = load_network(encoder)
    with torch.inference_mode():
        outputs = theirs(folders[name])((pixels.float() / 255 - network.mean) / network.std)
        assert_near(network(pixels), pooled(name, outputs))


def test_a_swin_network_gives_an_image_the_same_features_whatever_it_has_seen_before(
    encoders: dict[str, ImageEncoder],
) -> None:
    encoder = whole(replace(encoders["swin"], feature="multilevel"), "full")
    large = preprocessed(encoder.preprocessing, make_picture(1, (200, 150)))[None]
    small = preprocessed(encoder.preprocessing, make_picture(2, (40, 33)))[None]
    network = load_network(encoder)
    with torch.inference_mode():
        before = network(large)
        network(small)
        torch.testing.assert_close(network(large), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["clip", "siglip2"])
def test_random_crops_of_whole_images_are_whole_patches(encoders: dict[str, ImageEncoder], name: str) -> None:
    encoder = encoders[name] if name == "siglip2" else whole(encoders[name], 64)
    crops = random_crops_of(encoder.preprocessing, Crops(2), make_picture(1, (90, 60)), bytes(32))
    network = load_network(encoder)
    with torch.inference_mode():
        for crop in crops:
            assert all(side % 8 == 0 for side in crop.shape[1:])
            assert network(crop[None]).isfinite().all()


@pytest.mark.parametrize("name", few_fast("siglip2", names=("siglip2", "resnet", "clip")))
def test_an_encoder_is_found_again_by_its_signature(folders: dict[str, Path], name: str) -> None:
    for options in ({}, {"preprocessing": "reference", "feature": "multilevel"}, {"image_size": "full"}):
        encoder = find(folders[name], **options)
        assert image_encoder_of(encoder.signature, folders=[Path("/")]) == encoder


def test_a_relative_path_is_looked_for_beside_the_data(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["vit"], tmp_path / "models" / "vit")
    choice = ImageChoice("hf:models/vit")
    found = find_image_encoder(choice, folders=[tmp_path / "elsewhere", tmp_path])
    assert found.weights.path == tmp_path / "models" / "vit"
    assert found.signature.weights == find(folders["vit"]).signature.weights
    with pytest.raises(WeightsError, match="for the image encoder hf:models/vit: .*put a folder models/vit/"):
        find_image_encoder(choice, folders=[tmp_path / "elsewhere"])


def test_split_weights_are_loaded_and_every_part_is_in_the_hash(
    encoders: dict[str, ImageEncoder], tmp_path: Path
) -> None:
    split = write_vision_folder(tmp_path / "clip", "clip", max_shard_size="40KB")
    parts = sorted(split.glob("model-*.safetensors"))
    assert len(parts) > 1 and not (split / "model.safetensors").exists()
    image = make_picture(1, (50, 40))
    torch.testing.assert_close(ours(find(split), image), ours(encoders["clip"], image))
    digests = {folder_weights(split, "", MODEL_FILES).sha256}
    for part in parts:
        content = part.read_bytes()
        part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        digests.add(folder_weights(split, "", MODEL_FILES).sha256)
    assert len(digests) == len(parts) + 1
    parts[0].unlink()
    with pytest.raises(WeightsError, match=rf"{parts[0].name} is missing: download"):
        find(split)


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def copy(folders: dict[str, Path], name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders[name], tmp_path / name))


def test_a_model_that_needs_its_own_code_is_refused_and_the_code_is_not_run(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy(folders, "vit", tmp_path)
    (folder / "configuration_own.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    code = {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    edit(folder / "config.json", model_type="own_model", auto_map=code)
    with pytest.raises(EncoderError, match="'own_model'.*needs Python code.*never runs"):
        find(folder)
    edit(folder / "config.json", auto_map=None)
    with pytest.raises(EncoderError, match="has no model of type 'own_model'.*update transformers"):
        find(folder)
    assert not (tmp_path / "mark").exists()


def test_an_image_processor_that_needs_its_own_code_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy(folders, "vit", tmp_path)
    code = {"AutoImageProcessor": "processing_own.OwnProcessor"}
    (folder / "processing_own.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    edit(folder / "preprocessor_config.json", image_processor_type="OwnProcessor", auto_map=code)
    with pytest.raises(EncoderError, match="image processor"):
        find(folder)
    assert not (tmp_path / "mark").exists()


def test_a_text_encoder_is_no_image_encoder(bert_folder: Path) -> None:
    with pytest.raises(EncoderError, match="model_type 'bert'.*no image encoder"):
        find(bert_folder)


def test_a_model_without_a_pooled_output_is_refused(tmp_path: Path) -> None:
    config = hf.ViTMAEConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    hf.ViTMAEModel(config).save_pretrained(tmp_path / "mae")
    hf.ViTImageProcessor().save_pretrained(tmp_path / "mae")
    with pytest.raises(EncoderError, match="ViTMAEModel .*no pooled embedding"):
        find(tmp_path / "mae")


def test_weights_that_lack_a_tensor_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy(folders, "clip", tmp_path)
    state = load_file(folder / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match="1 tensors are missing.*'visual_projection.weight'"):
        load_network(find(folder))


def test_a_folder_without_image_processor_or_weights_says_what_to_add(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy(folders, "vit", tmp_path)
    (folder / "preprocessor_config.json").rename(tmp_path / "kept.json")
    with pytest.raises(WeightsError, match=r"lacks preprocessor_config.json.*put the file"):
        find(folder)
    (tmp_path / "kept.json").rename(folder / "preprocessor_config.json")
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="lacks model.safetensors or pytorch_model.bin"):
        find(folder)
    with pytest.raises(WeightsError, match="there is no folder.*pass the folder of this file"):
        find_image_encoder(ImageChoice("hf:x"), folder / "config.json")


def test_a_clip_tower_without_projection_gives_its_class_token(tmp_path: Path) -> None:
    config = hf.CLIPVisionConfig(**BLOCKS, **GRID)
    hf.CLIPVisionModel(config).save_pretrained(tmp_path / "tower")
    hf.CLIPImageProcessor(**CROPPED).save_pretrained(tmp_path / "tower")
    image, encoder = make_picture(1, (50, 40)), find(tmp_path / "tower")
    theirs = hf.CLIPVisionModel.from_pretrained(tmp_path / "tower").eval()
    with torch.inference_mode():
        expected = theirs(**processed(tmp_path / "tower", image)).pooler_output
    assert_near(ours(encoder, image), expected)
    assert encoder.signature.feature == "pooled"


def test_only_the_pooled_output_of_an_unlisted_model_is_read(tmp_path: Path) -> None:
    config = hf.FocalNetConfig(embed_dim=8, depths=[1, 1, 1, 1], image_size=32, patch_size=2)
    folder = tmp_path / "focalnet"
    hf.FocalNetModel(config).save_pretrained(folder)
    hf.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    image = make_picture(1, (50, 40))
    with torch.inference_mode():
        expected = theirs(folder)(**processed(folder, image)).pooler_output
    assert_near(ours(find(folder), image), expected)
    with pytest.raises(EncoderError, match="FocalNetModel.*--feature pooled"):
        find(folder, feature="multilevel")


@pytest.mark.parametrize("written", ["hf:models/vit/", "hf:./models/vit", "hf:models//vit/."])
def test_spellings_of_one_path_name_one_encoder(written: str) -> None:
    assert ImageChoice(written) == ImageChoice("hf:models/vit")


@pytest.mark.parametrize("name", ["hf:/models/vit", "hf:../vit", "hf:owner/name", "timm:a/", "hf:"])
def test_other_names_stay_as_they_are_written(name: str) -> None:
    assert ImageChoice(name).encoder == name


def test_weights_of_other_shapes_are_refused_by_the_name_of_a_tensor(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy(folders, "vit", tmp_path)
    edit(folder / "config.json", intermediate_size=40)
    with pytest.raises(WeightsError, match=r"tensors are missing or of another shape, first '[\w.]+'; take"):
        load_network(find(folder))


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", {"height": 0, "width": 0}), ("image_std", [0, 1, 1])],
)
def test_a_size_or_a_deviation_of_zero_is_refused(
    folders: dict[str, Path], tmp_path: Path, field: str, value: Any
) -> None:
    folder = copy(folders, "vit", tmp_path)
    edit(folder / "preprocessor_config.json", **{field: value})
    with pytest.raises(EncoderError, match=rf"has {field} = .*change {field}"):
        find(folder)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("vit", "patch_size", []),
        ("vit", "patch_size", 0),
        ("dinov2_with_registers", "num_register_tokens", -1),
    ],
)
def test_a_number_from_which_tokens_cannot_be_counted_is_refused(
    folders: dict[str, Path], tmp_path: Path, name: str, field: str, value: Any
) -> None:
    folder = copy(folders, name, tmp_path)
    edit(folder / "config.json", **{field: value})
    with pytest.raises(WeightsError, match=rf"config.json.*{field}.*download"):
        find(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [("architectures", 5), ("architectures", "ViTModel"), ("architectures", [1]), ("text_config", 5)],
)
def test_a_field_of_another_type_is_refused_by_its_name(
    folders: dict[str, Path], tmp_path: Path, field: str, value: Any
) -> None:
    folder = copy(folders, "vit", tmp_path)
    edit(folder / "config.json", **{field: value})
    with pytest.raises(WeightsError, match=rf"config.json states {field} = .*download"):
        find(folder)


def test_a_damaged_file_of_the_image_processor_is_told_in_one_paragraph(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy(folders, "vit", tmp_path)
    path = folder / "preprocessor_config.json"
    edit(path, image_processor_type="NoSuchProcessor")
    with pytest.raises(EncoderError, match="NoSuchProcessor|Unrecognized") as caught:
        find(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    path.write_text("{half")
    with pytest.raises(EncoderError, match="download preprocessor_config.json again"):
        find(folder)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 10\n")
    with pytest.raises(WeightsError, match=r"preprocessor_config.json is a pointer of Git LFS.*git lfs pull"):
        find(folder)


def test_a_folder_that_lacks_a_file_is_named_once_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="lacks config.json: download the whole folder") as caught:
        find(tmp_path / "empty")
    assert str(caught.value).count(str(tmp_path / "empty")) == 1


@pytest.mark.parametrize("name", ["vit", "siglip"])
def test_weights_with_more_blocks_than_the_config_are_refused(
    folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    folder = copy(folders, name, tmp_path)
    content = json.loads((folder / "config.json").read_text())
    content.get("vision_config", content)["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=r"has 3 parts \S*layers?\.N, and the weights also have '\S*\.3\."):
        load_network(find(folder))


def test_an_absolute_path_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"there is no folder {tmp_path}/moved: correct the path.*DIR"):
        find(tmp_path / "moved")
