"""The widgets room; see docs/development/architecture.md."""
