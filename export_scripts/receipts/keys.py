"""The key of a basket: one column or several; and the columns that tell where a receipt was written."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import pyarrow as pa

from export_scripts.receipts.ids import id_column
from export_scripts.receipts.problems import Problems
from export_scripts.receipts.tables import Cells, Table
from export_scripts.settings import DataSettings

# Words that tell where a receipt was written, in the languages of many exports.
OF_A_STORE = (
    "store|shop|branch|outlet|market|location|filiale?|laden|geschäft|markt|magasin|boutique|tienda|sucursal"
    "|negozio|loja|winkel|vestiging|butik|sklep|obchod"
)
OF_A_TILL = (
    "till|register|cashregister|cashdesk|terminal|pos|lane|checkout|station|workstation|device|kassen?|kassa"
    "|caisse|caja|cassa|caixa|kasa|pokladna"
)
ENDING = "s?(id|nr|no|num|number|nummer|code|key|name)?"
STORE = re.compile(f"({OF_A_STORE}){ENDING}")
PLACE = re.compile(f"({OF_A_STORE}|{OF_A_TILL}){ENDING}")
WORD = re.compile(r"[^\W\d_]+")


def basket_column(
    table: Table, names: Sequence[str], user: str | None, data: DataSettings, problems: Problems
) -> Cells:
    """Return the basket of each line: its receipt, or "till/receipt" for two columns.

    A part may be empty only in the column of users, where it stands for unknown customers.
    """
    parts = [
        id_column(table, name, data.missing, problems, required=len(names) == 1 or name != user)
        for name in names
    ]
    if len(parts) == 1:
        return parts[0]
    return Cells(" || '/' || ".join(map(_escaped, parts)), tuple(j for part in parts for j in part.joins))


def _escaped(part: Cells) -> str:
    """Different pairs get different names: a/b with c is not a with b/c."""
    text = f"coalesce(({part.sql})::varchar, '')"
    return f"replace(replace({text}, '\\', '\\\\'), '/', '\\/')"


def place_columns(schema: pa.Schema, key: Collection[str]) -> list[str]:
    """Return the columns that tell of a store or a till, and are not in the `key` of a basket."""
    return [name for name in _columns_of(PLACE, schema) if name not in key]


def store_column(schema: pa.Schema) -> str:
    """Return the only column whose name tells of a store; "" if there is none or more than one."""
    named = _columns_of(STORE, schema)
    return named[0] if len(named) == 1 else ""


def _columns_of(words: re.Pattern[str], schema: pa.Schema) -> list[str]:
    """Return the columns with a plain type and one of the `words` in their name."""
    return [
        field.name
        for field in schema
        if not pa.types.is_nested(field.type)
        and any(words.fullmatch(word.casefold()) for word in WORD.findall(_spaced(field.name)))
    ]


def _spaced(name: str) -> str:
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", name)
