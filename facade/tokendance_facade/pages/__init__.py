"""What people look at in a browser: the pages of the public site, and the design that the console shares."""
