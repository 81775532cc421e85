"""What the export makes for the lists of a release: the words of the names, and the golden answers."""
