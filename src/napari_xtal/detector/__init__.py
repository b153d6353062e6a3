"""The detector room; see docs/development/architecture.md."""
