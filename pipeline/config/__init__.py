"""Every job's configuration: frozen dataclasses, YAML files as partial ones, and the flags made from both."""

from pipeline.config.parse import UserError, parse

__all__ = ["UserError", "parse"]
