"""Measurements of speed and quality against peers; ``python -m benchmarks`` lists them."""
