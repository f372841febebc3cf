"""Prices: what a model costs, and what a call is charged."""
