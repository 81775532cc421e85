"""The event log: purchases and returns, kept in the order in which they were acknowledged."""
