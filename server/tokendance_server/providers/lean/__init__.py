"""HTTP/1.1 to upstreams on bare sockets: what the gateway needs of it, and nothing that a call pays for twice."""
