"""Every python snippet of client/README.md runs; the fake shop replaces the server."""

import re

from cesta_client.testing import FakeShop
from tests import ROOT

README = ROOT / "client" / "README.md"


def test_every_snippet_of_the_readme_runs(monkeypatch, capsys):
    server = FakeShop({"1095275": ["1029743", "995785"], "": ["1082185"]}, release=3)
    monkeypatch.setattr("cesta_client._recommender.connect", lambda to: server)
    monkeypatch.setattr("cesta_client._async_recommender.connect_async", lambda to: server)
    monkeypatch.setattr("cesta_client._reporting.connect_events", lambda to: server)
    snippets = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) == 6
    names = {}
    for snippet in snippets:
        exec(snippet, names)
    printed = capsys.readouterr().out
    assert "1 1029743 1.0 ['TOGETHER']" in printed
    assert "3 ['1082185']" in printed
