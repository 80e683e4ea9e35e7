"""What a tokenizer loses of prompts: truncated ends, unknown tokens, and differences between prompts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tier4k.extract.encoders.text_tokenizer import TextTokenizer

PROMPTS_AT_ONCE = 1024  # so that memory stays bounded for millions of prompts

SHOWN_LETTERS = 60  # of a prompt, as an example

SHOWN_BEFORE = 10  # letters before the first difference of two prompts


@dataclass(frozen=True)
class TokenReport:
    """The prompts of which an encoder does not read everything.

    Attributes:
        prompts: Number of distinct prompts.
        max_tokens: Number of tokens at which longer prompts are truncated.
        truncated: The prompts with more tokens.
        unknown: The prompts with unknown tokens.
        unknown_share: Share of unknown tokens among the tokens of all prompts, without those that the
            tokenizer adds to every text.
        equal: Groups of prompts whose tokens are equal after truncation, so that their features are equal.
    """

    prompts: int
    max_tokens: int
    truncated: tuple[str, ...]
    unknown: tuple[str, ...]
    unknown_share: float
    equal: tuple[tuple[str, ...], ...]

    @property
    def findings(self) -> dict[str, str]:
        """A short name of each kind of loss, and a sentence about it; "" where nothing is lost."""
        return {
            "truncated prompts": self._truncated_text(),
            "unknown tokens": self._unknown_text(),
            "equal tokens": self._equal_text(),
        }

    def _truncated_text(self) -> str:
        if not self.truncated:
            return ""
        are = "is" if len(self.truncated) == 1 else "are"
        limit = f"truncated at {self.max_tokens} tokens"
        return f"{self._count(len(self.truncated))} {are} {limit}, for example {_shown(self.truncated[0])}"

    def _unknown_text(self) -> str:
        if not self.unknown:
            return ""
        have = "has" if len(self.unknown) == 1 else "have"
        share = f"{100 * self.unknown_share:.3g}% of all tokens"
        count = f"{self._count(len(self.unknown))} {have} unknown tokens ({share})"
        return f"{count}, for example {_shown(self.unknown[0])}"

    def _equal_text(self) -> str:
        if not self.equal:
            return ""
        count = self._count(sum(map(len, self.equal)))
        first, second = _shown_difference(*self.equal[0][:2])
        return f"{count} have the same tokens as another one, for example {first} = {second}"

    def _count(self, prompts: int) -> str:
        return f"{prompts:,} of {self.prompts:,} prompts"


def report_tokens(tokenizer: "TextTokenizer", prompts: Sequence[str]) -> TokenReport:
    """Tokenize distinct prompts, and report what is lost."""
    added = tokenizer.untruncated_ids([""])[0]
    truncated: list[str] = []
    unknown: list[str] = []
    unknown_tokens = tokens = 0
    prompts_of_tokens: dict[bytes, list[str]] = {}
    for prompt, whole, read in _tokenized(tokenizer, prompts):
        if len(whole) > tokenizer.max_tokens:
            truncated.append(prompt)
        if count := whole.count(tokenizer.unknown_id) if tokenizer.unknown_id is not None else 0:
            unknown.append(prompt)
            unknown_tokens += count
        tokens += len(whole) - len(added)
        prompts_of_tokens.setdefault(read, []).append(prompt)
    equal = [tuple(group) for group in prompts_of_tokens.values() if len(group) > 1]
    return TokenReport(
        prompts=len(prompts),
        max_tokens=tokenizer.max_tokens,
        truncated=tuple(truncated),
        unknown=tuple(unknown),
        unknown_share=unknown_tokens / max(tokens, 1),
        equal=tuple(equal),
    )


def _tokenized(
    tokenizer: "TextTokenizer",
    prompts: Sequence[str],
) -> Iterator[tuple[str, list[int], bytes]]:
    """Yield each prompt, its tokens before truncation, and the tokens that the network reads as bytes."""
    for start in range(0, len(prompts), PROMPTS_AT_ONCE):
        part = prompts[start : start + PROMPTS_AT_ONCE]
        whole = tokenizer.untruncated_ids(part)
        batch = tokenizer(part)
        ids, masks = batch.ids.numpy().astype(np.int32), batch.mask.numpy().astype(bool)
        for prompt, tokens, row, mask in zip(part, whole, ids, masks, strict=True):
            yield prompt, tokens, row[mask].tobytes()


def _shown(prompt: str) -> str:
    """Return the beginning of a prompt in quotes, on one line."""
    return repr(prompt if len(prompt) <= SHOWN_LETTERS else prompt[:SHOWN_LETTERS] + "…")


def _shown_difference(first: str, second: str) -> tuple[str, str]:
    """Return two prompts in quotes; of long ones that begin equally, the part where they differ."""
    same = 0
    while first[same : same + 1] == second[same : same + 1] != "":
        same += 1
    start = same - SHOWN_BEFORE if same > SHOWN_LETTERS // 2 else 0
    before = "…" if start > 0 else ""
    return _shown(before + first[start:]), _shown(before + second[start:])
