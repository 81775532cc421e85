"""The limits of one request. The server has the same limits."""

MAX_BASKET = 200  # different ids
MAX_EXCLUDE = 1000  # different ids
MAX_CATEGORIES = 100  # different names, to recommend from and likewise to exclude
MAX_ITEMS = 100  # different ids
MAX_HISTORY = 1000  # different pairs of an id and an age
MAX_AGE = 36_525  # days: a century
MAX_ID_BYTES = 128  # of UTF-8, per id
MAX_K = 20  # the server always answers with so many items; the client cuts the list at k
MAX_BATCH = 64  # queries in one request; recommend_many splits longer lists
MAX_TENSOR_BYTES = 62 * 1024  # in one request; a gateway allows 64 KiB with names, shapes and request id
