"""Tests of the whole project; README.md says what each folder holds."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of the checkout
