"""Asks a gateway with a client of openapi-python-client: ask_json.py CLIENT URL KEY.

Prints the item ids, and the code of an error. It runs in the environment of the generators.
"""

import importlib
import sys

sys.path.insert(0, ".")
package, url, key = sys.argv[1:]
Query = importlib.import_module(f"{package}.models").Query
recommend = importlib.import_module(f"{package}.api.default.recommend")
with importlib.import_module(f"{package}.client").AuthenticatedClient(url, token=key) as client:
    print(*(item.item_id for item in recommend.sync(client=client, body=Query(basket=["i1"], k=3)).items))
    print(recommend.sync(client=client, body=Query(k=21)).code)
