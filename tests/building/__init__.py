"""Builds the inputs of tests: shops, arrays, runs, repositories, toy models."""

from pathlib import Path

TOY_SAMPLER = Path(__file__).parent / "toy_sampler"  # published in place of the real sampler
