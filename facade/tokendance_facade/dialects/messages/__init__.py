"""Anthropic Messages: request decoding, whole answers, and stream encoding.

What this dialect cannot show: several choices, log probabilities, sound and pictures made by the model, and sources
that another dialect cites. Arguments of a call that are no JSON object stand under `raw_arguments` in a whole answer.
"""
