"""JSON objects that cesta writes and reads again, as frozen values with typed fields."""

import json
from typing import ClassVar, Final, Self

from pydantic import BaseModel, JsonValue, ValidationError

from operations.errors import CestaError
from operations.records.disk import explain
from operations.records.place import Place

EXPECTED: Final = {  # pydantic's name of a problem → the clause for the user
    "dict_type": "it must be an object",
    "model_type": "it must be an object",
    "mapping_type": "it must be an object",
    "tuple_type": "it must be a list",
    "list_type": "it must be a list",
    "string_type": "it must be a text",
    "int_type": "it must be a whole number",
    "int_parsing": "it must be a whole number",
    "float_type": "it must be a number",
    "float_parsing": "it must be a number",
}


class JsonRecord(BaseModel, frozen=True, extra="allow"):
    """A JSON object: its fields in the order of their declaration, those without a value left out.

    A key that this version does not know is kept and written last, so that a record of a newer or older
    version survives being read and written.
    """

    WAY_OUT: ClassVar = "restore the file from a backup"  # of a reader whose file is damaged

    @classmethod
    def read(cls, path: Place) -> Self:
        """Read a record from a file. Raises CestaError naming the file and the first wrong or missing key.

        The same for a file that the disk does not give out; FileNotFoundError if there is none.
        """
        return cls.parse(_read(path), path)

    @classmethod
    def parse(cls, content: bytes, path: Place) -> Self:
        """The record in the ``content`` of the file at ``path``. Raises CestaError as ``read`` does."""
        described = _parse_json(content, path, cls.WAY_OUT)
        try:
            return cls.model_validate(described)
        except ValidationError as error:
            raise CestaError(f"{path} is damaged: {first_problem(error)}; {cls.WAY_OUT}") from None

    def json_object(self) -> dict[str, JsonValue]:
        """The record's keys and values, as they are written."""
        return self.model_dump(exclude_unset=True)

    def json_text(self) -> str:
        """The record as a JSON file's content."""
        return json.dumps(self.json_object(), indent=2, ensure_ascii=False) + "\n"


def read_json(path: Place, way_out: str) -> dict[str, JsonValue]:
    """Read a JSON object from a file. Raises CestaError, which ends with ``way_out``, if it holds none."""
    return _parse_json(_read(path), path, way_out)


def _read(path: Place) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:  # a damaged disk, a folder of this name
        raise CestaError(explain(error)) from error


def _parse_json(content: bytes, path: Place, way_out: str) -> dict[str, JsonValue]:
    try:
        described = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CestaError(f"{path} is damaged: {error}; {way_out}") from None
    if not isinstance(described, dict):
        raise CestaError(f"{path} is damaged: it holds no JSON object; {way_out}")
    return described


def first_problem(error: ValidationError) -> str:
    """The first key that a record lacks or that has a wrong value, as a clause."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f'the key "{key}" is missing'
    if first["type"] == "json_invalid":
        return first["msg"]
    where = f'the key "{key}"' if key else "the content"
    expected = EXPECTED.get(first["type"], first["msg"].removeprefix("Value error, "))
    return f"{where} is {first['input']!r:.80}: {expected}"
