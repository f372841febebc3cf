"""Idempotency keys: a call sent again gets the answer that was made and charged the first time."""
