"""Pages of API lists: by key, so that page 500 costs what page 1 costs."""

from rest_framework.pagination import CursorPagination


class KeysetPagination(CursorPagination):
    """Cursor pagination by descending id; `limit` (1 to 500, default 100) and `cursor` are the parameters."""

    ordering = "-id"
    page_size = 100
    page_size_query_param = "limit"
    max_page_size = 500
