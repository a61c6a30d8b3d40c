"""One episode: an agent against a closed task, under budgets, leaving one artifact."""
