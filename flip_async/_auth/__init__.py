"""Credentials, and the life of the tokens they give."""
