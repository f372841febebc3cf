"""Usage: what each request used, from its open entry in the journal to its row and its sums."""
