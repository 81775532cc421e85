"""What staleness costs: a replay of the last weeks of a shop, day by day."""
