"""Administration over REST: `/admin/v1`, derived from the paths that the RPCs state in `google.api.http`."""
