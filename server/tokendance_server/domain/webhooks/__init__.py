"""Webhooks: who is told by HTTP that limits near their end, and how it gets there."""
