"""What one request may hold; the server refuses more with the same numbers."""

MAX_BASKET = 200  # different ids
MAX_EXCLUDE = 1000  # different ids
MAX_CATEGORIES = 100  # different names
MAX_ID_BYTES = 128  # of UTF-8, per id
MAX_K = 20  # every answer holds this many; a smaller k slices it
MAX_BATCH = 64  # queries in one request; recommend_many splits longer lists
MAX_TENSOR_BYTES = 62 * 1024  # likewise; a gateway takes 64 KiB with names, shapes and request id
