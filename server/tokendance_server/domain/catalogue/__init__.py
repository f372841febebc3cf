"""The model catalogue: what is kept of it, what is in force, and how it is changed."""
