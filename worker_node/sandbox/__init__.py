"""How a command is kept apart from its host: policy, environment, workspace, spawner."""
