"""Every job's configuration: frozen dataclasses, YAML files as partial ones, and the flags made from both."""

from pipeline.config.parse import parse
from pipeline.errors import UserError

__all__ = ["UserError", "parse"]
