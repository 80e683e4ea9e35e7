"""Figures of runs for papers."""
