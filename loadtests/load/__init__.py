"""Sends shoppers and an open loop to a release, and holds it to budgets."""
