"""The best items of the whole catalog for everybody, as tables that other systems load."""
