"""The gateway's API, one package per version."""
