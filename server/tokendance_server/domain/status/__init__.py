"""What works: counted from the requests that end, judged by written thresholds, and said by people."""
