"""Small inputs that tests build: data sets, networks, runs."""
