"""Organizations, teams and members: how they are made, changed and stopped, and by which policy."""
