"""What `envs.Simulator` is made of: threaded rollouts, rewards computed from them, and copies that are stepped."""
