"""Registered models, versions, aliases, evidence, gate results and approvals."""
