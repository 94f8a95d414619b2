"""The MLflow REST protocol: the only place where MLflow's words are allowed."""
