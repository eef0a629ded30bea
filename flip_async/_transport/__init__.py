"""Below the auth: connections, and what became of one request on them."""
