"""Random identifiers."""

import secrets


def new_id() -> str:
    """32 lower-case hex characters, 128 random bits."""
    return secrets.token_hex(16)


def new_token() -> str:
    """URL-safe secret of 256 random bits."""
    return secrets.token_urlsafe(32)
