"""What the platform plugs into: environment, home, recipe, Ray, pages. Thin: each hands out a domain object."""
