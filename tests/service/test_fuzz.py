"""Nothing that a client can send is a fault of the server: random bodies, parameters and headers."""

from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.service.conftest import Demo

pytestmark = pytest.mark.slow
NAMES = (
    *(
        "query",
        "top",
        "after",
        "filters",
        "purpose",
        "right",
        "wrong",
        "without",
        "witnesses",
        "verdict",
        "one_per_track",
    ),
    *("cameras", "since", "until", "hours", "tags", "sources", "exclude"),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.datetimes().map(str)
    | st.sampled_from(["a man", "gate", "2026-05-01", "0x1.0p+0,1,1", f"-0x1.8p+1,{10**20},0", "'; DROP TABLE", "%"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
BODIES = st.fixed_dictionaries(
    {"query": st.just("a man") | VALUES},
    optional={
        "filters": st.dictionaries(st.sampled_from(NAMES[11:]), VALUES, max_size=4),
        **dict.fromkeys(NAMES[1:3], VALUES),
    },
)
HONEST = {200, 400, 404, 422}
relaxed = settings(max_examples=20, suppress_health_check=list(HealthCheck))


def json_of(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()


@relaxed
@given(body=BODIES | VALUES)
def test_a_body_is_answered_or_refused(address: str, body: Any) -> None:
    with httpx2.Client(base_url=address, trust_env=False) as client:
        headers = {"Content-Type": "application/json"}
        for path in ("search", "crops/1/similar"):
            answer = client.post(f"/api/v1/{path}", content=json_of(body), headers=headers)
            assert answer.status_code in HONEST, answer.text
            if answer.status_code != 200:
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["status"] == answer.status_code


@relaxed
@given(
    fields=st.dictionaries(
        st.sampled_from(
            ["q", "camera", "since", "until", "from_hour", "to_hour", "tag", "after", "first", "right", "purpose"]
        ),
        st.text(max_size=30) | st.integers().map(str),
    ),
    path=st.sampled_from(["/", "/crops/1/similar", "/sign-in", "/audit"])
    | st.text(max_size=20).map("/crops/{}".format),
    accept=st.sampled_from(["text/html", "*/*"]),
)
def test_an_address_is_answered_or_refused(
    address: str, demo: Demo, fields: dict[str, str], path: str, accept: str
) -> None:
    assert demo.crops
    with httpx2.Client(base_url=address, trust_env=False) as client:
        try:
            request = client.build_request("GET", path, params=fields, headers={"Accept": accept})
        except (httpx2.InvalidURL, UnicodeEncodeError):
            return
        answer = client.send(request)
    assert answer.status_code in {*HONEST, 303, 307}, answer.text
