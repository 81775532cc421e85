"""Makes two parts of a release's lists at the export: the words of the names, and the golden answers."""
