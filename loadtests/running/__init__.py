"""Starts the servers that are measured, and describes the machine under them."""
