"""OpenAI Chat Completions: request decoding, whole answers, and stream encoding.

What this dialect cannot show: a reasoning item's signature and encrypted content, item ids, the stop text that was
met, a picture's unfinished versions.
"""
