"""One module for each command. A module imports what is heavy only where the command runs."""
