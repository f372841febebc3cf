"""The gRPC server of TokenDance Gateway: keys, quota, models, completions and status, governed in one place."""
