"""Stage 1 as one function: read a data set, find the encoders, encode what no store has, open the stores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tier4k.cache.signature import SIGNATURE_FILE
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.choices import OnError, Stream
from tier4k.extract.datasets.table_choice import RECOGNISED, TableChoice
from tier4k.extract.encoders.choices import StoreDtype
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.inputs.record import DatasetRecord, write_record
from tier4k.extract.pipeline.missing_inputs import Encoder, InputChoice
from tier4k.extract.pipeline.options import ExtractionError, ExtractionOptions
from tier4k.heads.data.encoder_choice import ImageEncoders
from tier4k.heads.data.stores import FeatureStores
from tier4k.heads.encoders.finetuned import SavedEncoders, finetuned_encoders
from tier4k.heads.extraction.data import Data, listed
from tier4k.heads.extraction.encode import encode
from tier4k.heads.extraction.encoders import EncoderRequest, find_encoders
from tier4k.heads.extraction.planning import open_data, plan_data
from tier4k.heads.extraction.prompts import require_prompts
from tier4k.heads.extraction.reporter import LOG, Reporter


def extract_features(
    data: Data,
    image_encoder: ImageEncoders | None = None,
    text_encoder: str | Sequence[str] | None = None,
    features: str | Path = "features",
    *,
    encoder: str | ImageChoice | None = None,
    streams: str = "all",
    templates: str | Path | None = None,
    image_weights: str | Path | None = None,
    text_weights: str | Path | None = None,
    table: TableChoice = RECOGNISED,
    on_error: OnError = "stop",
    rehash: bool = False,
    options: ExtractionOptions | None = None,
    reporter: Reporter = LOG,
    command: Sequence[str] = (),
) -> FeatureStores:
    """Encode every image and prompt of a data set that is not stored yet, and return the stores.

    A repeated call encodes nothing again; a call after an interruption continues.

    Args:
        data: The data set: a folder, a table, tar archives, a URL, or the folder of a plan; several are
            joined.
        image_encoder: Image encoders: names as for `tier extract --image-encoder`, such as "clip" or
            "timm:NAME", an `ImageChoice` with options of the features, or an `ImageEncoderFunction`. By
            default, the default encoder.
        text_encoder: Names of text encoders, as for `tier extract --text-encoder`.
        features: Folder of stores.
        encoder: A checkpoint with an image encoder and a text encoder, `hf:NAME_OR_PATH`.
        streams: Streams whose inputs are encoded, such as "image+text", or "all".
        templates: TOML file of texts that `encoder` encodes besides the prompts; None for the built-in texts.
        image_weights: Weights of the only image encoder; None searches the usual folders.
        text_weights: Weights of the only text encoder; None searches the usual folders.
        table: What you say about layout, columns and sheet; they are recognised otherwise.
        on_error: What happens to rows with problems and to images that cannot be read: "stop" raises (for
            images once all others are stored), "skip" leaves them out and warns.
        rehash: Whether all images are read and hashed again.
        options: Batch size, device, workers (see `ExtractionOptions`); they change no feature by more than
            rounding.
        reporter: Receives sentences and progress; by default Python's logger "tier4k".
        command: Command line, which is recorded.

    Returns:
        The stores of the encoders: features (D,) of one input as `float32` or `float16`, (V, D) where V crops
        of each image are stored.

    Raises:
        DataError: The data set or a row cannot be used.
        EncoderError, WeightsError: An encoder or its weights do not exist.
        ExtractionError: Options contradict each other, or images or inputs could not be encoded.
        StoreError: A store cannot be written, or the disk has too little room.
    """
    request = EncoderRequest(
        image_encoder,
        text_encoder,
        encoder,
        streams,
        _path(templates),
        _path(image_weights),
        _path(text_weights),
    )
    job = Extraction.of(data, request, Path(features), table, on_error, rehash, reporter)
    return job.run(options or ExtractionOptions(), command)


def extract_finetuned(
    data: Data,
    run: Path,
    target: str | None = None,
    repeat: int | None = None,
    features: str | Path = "features",
    *,
    streams: tuple[Stream, ...],
    store_dtype: StoreDtype = "float32",
    table: TableChoice = RECOGNISED,
    on_error: OnError = "stop",
    rehash: bool = False,
    options: ExtractionOptions | None = None,
    reporter: Reporter = LOG,
    command: Sequence[str] = (),
) -> SavedEncoders:
    """Encode a data set with the encoders that a run finetuned, and return the encoders.

    Args:
        run: Folder of the run.
        target, repeat: The head with which the encoders were trained; None takes the first with encoders.
        streams: Streams whose inputs are encoded.
        store_dtype: Type of the stored numbers.
        data, features, table, on_error, rehash, options, reporter, command: As for `extract_features`.

    Raises:
        TierError: As for `extract_features`; or the run has no such encoders.
    """
    encoders = finetuned_encoders(run, target, repeat).stored_as(store_dtype)
    used: list[Encoder] = [encoder for encoder in encoders.all if _has_inputs(encoder, streams)]
    if not used:
        raise ExtractionError(
            f"--streams: {run} finetuned no encoder of {'+'.join(streams)}: pass other streams"
        )
    sources = open_data(listed(data), table, needs_prompts="text" in streams)
    require_prompts(sources, streams)
    root = Path(features)
    inputs = plan_data(sources, root, on_error, reporter, rehash)
    job = Extraction(listed(data), root, inputs, used, InputChoice(streams), on_error, reporter)
    job.run(options or ExtractionOptions(), command)
    return encoders


@dataclass(frozen=True)
class Extraction:
    """A planned extraction.

    Attributes:
        data: The data sets, as the user named them.
        features: Folder of stores.
        inputs: The inputs of the data sets.
        encoders: The encoders.
        choice: The inputs that they encode.
        on_error: Whether images that cannot be read are an error.
        reporter: Receives sentences and progress.
    """

    data: Sequence[str | Path]
    features: Path
    inputs: DatasetInputs
    encoders: Sequence[Encoder]
    choice: InputChoice
    on_error: OnError
    reporter: Reporter

    @classmethod
    def of(
        cls,
        data: Data,
        request: EncoderRequest,
        features: Path,
        table: TableChoice,
        on_error: OnError,
        rehash: bool,
        reporter: Reporter,
    ) -> "Extraction":
        """Read the data sets, find the encoders, and plan their inputs.

        Args:
            request: The encoders that the user names, and their streams.
            data, features, table, on_error, rehash, reporter: As for `extract_features`.

        Raises:
            TierError: As for `extract_features`.
        """
        needs_prompts = "text" in request.parsed_streams()
        sources = open_data(listed(data), table, needs_prompts)
        encoders, choice = find_encoders(sources, request, reporter)
        inputs = plan_data(sources, features, on_error, reporter, rehash)
        return cls(listed(data), features, inputs, encoders, choice, on_error, reporter)

    def write_plan(self) -> DatasetRecord:
        """Write the plan into the folder of stores, and encode nothing.

        Raises:
            StoreError: The plan cannot be written.
        """
        return write_record(self.features, self.inputs, self.choice.template_texts)

    def run(self, options: ExtractionOptions, command: Sequence[str]) -> FeatureStores:
        """Encode what no store has, and return the stores of the encoders.

        Raises:
            TierError: As for `extract_features`.
        """
        encode(
            list(map(str, self.data)),
            self.features,
            self.inputs,
            self.encoders,
            options,
            self.reporter,
            self.choice,
            self.on_error,
            command,
        )
        images = self._stores("image")
        return FeatureStores.of(images, self._stores("text"))

    def _stores(self, stream: str) -> list[FeatureStore]:
        """Return the stores of image or text encoders; with --shard, an encoder may have none."""
        folders = []
        for encoder in self.encoders:
            if encoder.signature.stream == stream:
                folders.append(self.features / encoder.signature.folder_name)
        return [FeatureStore.open(folder) for folder in folders if (folder / SIGNATURE_FILE).exists()]


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _has_inputs(encoder: ImageEncoder | TextEncoder, streams: tuple[Stream, ...]) -> bool:
    if encoder.signature.stream == "text":
        return "text" in streams
    return streams != ("text",)
