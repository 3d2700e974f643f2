"""Blind tests: people judge which rows are real and which a model made (section 20.14)."""

from .kit import BlindTest, blind_test
from .score import BlindScore, score_answers

__all__ = ["BlindScore", "BlindTest", "blind_test", "score_answers"]
