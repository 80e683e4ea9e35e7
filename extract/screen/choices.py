"""Choices that the command line offers; this module imports nothing, so that help shows at once."""

from typing import Literal

TableFormat = Literal["table", "csv", "json", "md"]
"""A table for the terminal, two forms for programs (raw numbers), and Markdown."""
