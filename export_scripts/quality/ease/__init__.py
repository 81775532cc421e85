"""EASE on receipts: the ranker, and how it is fitted."""
