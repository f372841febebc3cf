"""Tools of this repository's developers; imported as `dev`, never shipped."""
