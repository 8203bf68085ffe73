"""One file a recipe: what to measure, how to share the budget."""
