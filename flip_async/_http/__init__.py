"""One call: built, sent until it is answered, read."""
