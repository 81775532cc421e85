"""Drift: how far what is asked, or sold, is from what a release was made of."""
