"""Starts one tritonserver on a published repository and stops it."""
