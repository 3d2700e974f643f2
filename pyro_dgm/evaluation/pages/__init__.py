"""Pages of HTML that hold all they show: no file beside them, nothing from elsewhere."""

from .html import Page, code, facts, note, picture, table

__all__ = ["Page", "code", "facts", "note", "picture", "table"]
