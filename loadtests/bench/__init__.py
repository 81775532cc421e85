"""Compares cesta with other servers, on the same questions."""
