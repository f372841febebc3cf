"""Sessions of people in the console: kept by the server, known to a browser by a random cookie and nothing else."""
