"""`cesta serve`: it watches a tritonserver, restarts one that no longer answers, and reports its state."""
