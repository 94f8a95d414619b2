"""Importing this makes `log_model` quick: what a model needs is inferred once for each environment, then remembered.

Runs that the stock client starts do it by themselves where modelyard is installed beside it (see docs/how-to).
"""

from modelyard.mlflow_plugin.requirements import install

install()
