"""OpenAI Responses, stateless: a request into the canonical form, and the canonical answer or stream back."""
