"""The candidate sampler: from ids to a few hundred candidate rows with their features.

Copied whole into every release and imported there by Triton as part of ``model.py``; so it imports only
its own siblings (relatively), numpy, numba and faiss.
"""
