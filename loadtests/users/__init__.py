"""Measures the cost of more users, with releases made of drawn tables."""
