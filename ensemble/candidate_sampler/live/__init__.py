"""Live tables: what a shop forbids while a release serves, followed by each sampler process.

The supervisor writes the logs (`operations/live`). This code is copied into releases with the sampler's.
"""
