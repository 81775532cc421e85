"""Asks a cesta server what goes into this basket next.

with Recommender("localhost:8001", timeout_s=0.2) as shop:
    shop.recommend(basket=["1095275"], user_id="900", k=10)
"""

from ._async_recommender import AsyncRecommender
from ._errors import (
    CestaError,
    InvalidRequest,
    ServerError,
    Throttled,
    TimedOut,
    Unauthorized,
    Unavailable,
)
from ._events import EventsStatus
from ._recommender import Recommender
from ._stock import Availability, StockChange
from ._transports.interface import AsyncTransport, Reply, Transport
from ._values import AnswerWarning, Query, Reason, Recommendation, Recommendations
from ._version import __version__

__all__ = [
    "AnswerWarning",
    "AsyncRecommender",
    "AsyncTransport",
    "Availability",
    "CestaError",
    "EventsStatus",
    "InvalidRequest",
    "Query",
    "Reason",
    "Recommendation",
    "Recommendations",
    "Recommender",
    "Reply",
    "ServerError",
    "StockChange",
    "Throttled",
    "TimedOut",
    "Transport",
    "Unauthorized",
    "Unavailable",
    "__version__",
]

for _error in (CestaError, *CestaError.__subclasses__()):
    _error.__module__ = __name__  # tracebacks then show cesta_client.TimedOut, the name that programs import
del _error
