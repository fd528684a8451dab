"""HTTP: one API out of one service or of all four, by the same code."""

from libs.common.web.app import Service, build_app
from libs.common.web.paging import Limit, Page, decode_cursor, encode_cursor

__all__ = ["Limit", "Page", "Service", "build_app", "decode_cursor", "encode_cursor"]
