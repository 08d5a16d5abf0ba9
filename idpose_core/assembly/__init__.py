"""From stage results to the published tables: splits, records, statistics, card."""
