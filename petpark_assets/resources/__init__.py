"""What the platform plugs into: the environment, the home, the recipe of a run, Ray. Thin: each hands out a domain object."""
