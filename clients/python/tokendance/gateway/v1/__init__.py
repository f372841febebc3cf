"""Generated messages and stubs of version 1 of the API; see proto/ for their sources."""
