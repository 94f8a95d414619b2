"""What the stock `mlflow` library loads of modelyard through its entry points."""
