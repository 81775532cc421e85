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
PLACE = re.compile(
    "(store|shop|branch|outlet|market|location|till|register|cashregister|cashdesk|terminal|pos|lane|checkout"
    "|station|workstation|device|filiale?|laden|geschäft|markt|kassen?|kassa|magasin|boutique|caisse|tienda"
    "|sucursal|caja|negozio|cassa|loja|caixa|winkel|vestiging|butik|sklep|kasa|obchod|pokladna)"
    "s?(id|nr|no|num|number|nummer|code|key|name)?"
)
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
    named = [field.name for field in schema if not pa.types.is_nested(field.type) and _is_place(field.name)]
    return [name for name in named if name not in key]


def _is_place(name: str) -> bool:
    """Does a word of the name tell of a store or a till?"""
    spaced = re.sub("(?<=[a-z])(?=[A-Z])", " ", name)
    return any(PLACE.fullmatch(word.casefold()) for word in WORD.findall(spaced))
