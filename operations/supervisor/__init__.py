"""`cesta serve`: a tritonserver that is watched, started again when it no longer answers, and asked about."""
