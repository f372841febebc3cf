"""A catalogue declared in a file: read with the place of everything, compared with a node, and brought about there."""
