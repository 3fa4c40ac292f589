"""A demonstration line: a rendered product, an embedded broker, an account at the end."""
