"""Releases after publishing: they are listed, verified, promoted, rolled back and retired."""
