"""The frontier: Deep Feature Flow against light networks on every frame, both in INT8."""
