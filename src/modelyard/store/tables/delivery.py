"""Endpoints, deployments and rollouts."""
