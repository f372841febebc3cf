"""Messages and stubs of version 1, generated from proto/."""
