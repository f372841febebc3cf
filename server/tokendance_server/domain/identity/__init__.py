"""TokenDance ID on the side of the gateway: whose access tokens are believed, and whom they make of their bearer."""
