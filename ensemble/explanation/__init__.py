"""Why an answer holds an item, and why it does not hold another."""
