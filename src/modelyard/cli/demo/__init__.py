"""`modelyard demo`: the whole loop on real flights, told as it happens."""

from modelyard.cli.demo.command import demo

__all__ = ["demo"]
