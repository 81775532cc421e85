"""Drift of receipts: the reference of a release, and `cesta drift`."""
