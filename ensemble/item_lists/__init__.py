"""Lists of items that need no basket: similar to one, bought with it, instead of it, and what sells best."""
