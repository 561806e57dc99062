from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.drawing import draw_legal, records_of
from serving.batch_body import decode_batch
from serving.problems import HTTPProblem, Invalid, NotJson
from serving.schemas import BatchRows, FeaturesRequest, decode
from tests.home_credit import PORTFOLIO, REQUESTS

PredictRequest = REQUESTS.predict

APPLICATION: dict[str, Any] = {
    "NAME_CONTRACT_TYPE": "Cash loans",
    "AMT_INCOME_TOTAL": 100000,
    "AMT_CREDIT": 200000,
}
COMPLETE: Mapping[str, Any] = records_of(draw_legal(PORTFOLIO, 3, seed=1).take(slice(1, 2)))[0]
SECRET = 987654321.5


def body(**changes: Any) -> bytes:
    return json.dumps({"application": {**APPLICATION, **changes}}).encode()


def batch(*applications: Any) -> BatchRows:
    content = {"applications": [{"application": application} for application in applications]}
    return decode_batch(json.dumps(content).encode(), REQUESTS, limit=3, item_bytes=65_536)[0]


def test_absent_and_null_columns_are_missing() -> None:
    request = decode(PredictRequest, body(AMT_ANNUITY=None))
    assert (request.client_id, request.application["AMT_ANNUITY"], request.application["EXT_SOURCE_1"]) == (
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"AMT_CREDIT": None}, ["application", "AMT_CREDIT"], "Input should be a valid number"),
        ({"AMT_CREDIT": "200000"}, ["application", "AMT_CREDIT"], "Input should be a valid number"),
        ({"AMT_CREDIT": True}, ["application", "AMT_CREDIT"], "Input should be a valid number"),
        ({"AMT_CREDIT": -1}, ["application", "AMT_CREDIT"], "Input should be greater than or equal to 1"),
        ({"FLAG_EMAIL": 2}, ["application", "FLAG_EMAIL"], "Input should be less than or equal to 1"),
        ({"FLAG_EMAIL": "1"}, ["application", "FLAG_EMAIL"], "Input should be a valid number"),
        ({"CNT_CHILDREN": 1.5}, ["application", "CNT_CHILDREN"], "Input should be a multiple of 1"),
        ({"EXT_SOURCE_1": float("nan")}, ["application", "EXT_SOURCE_1"], "Input should be a finite number"),
        ({"EXT_SOURCE_1": float("inf")}, ["application", "EXT_SOURCE_1"], "Input should be a finite number"),
        ({"NAME_CONTRACT_TYPE": " "}, ["application", "NAME_CONTRACT_TYPE"], "Field required"),
        ({"NAME_CONTRACT_TYPE": "XNA"}, ["application", "NAME_CONTRACT_TYPE"], "Field required"),
        ({"NAME_INCOME_TYPE": 3}, ["application", "NAME_INCOME_TYPE"], "Input should be a valid string"),
        ({"TARGET": 1}, ["application", "TARGET"], "Extra inputs are not permitted"),
        ({"SK_ID_CURR": 1}, ["application", "SK_ID_CURR"], "Extra inputs are not permitted"),
        ({"DAYS_EMPLOYED": 5}, ["application", "DAYS_EMPLOYED"], "Input should be less than or equal to 0"),
    ],
)
def test_an_invalid_column_is_named(changes: dict[str, Any], place: list[str], message: str) -> None:
    with pytest.raises(Invalid) as refusal:
        decode(PredictRequest, body(**changes))
    assert refusal.value.errors == [{"loc": place, "msg": message}]


def test_a_missing_required_column_is_named() -> None:
    with pytest.raises(Invalid) as refusal:
        decode(PredictRequest, b'{"application": {"NAME_CONTRACT_TYPE": "Cash loans", "AMT_CREDIT": 1}}')
    assert refusal.value.errors == [{"loc": ["application", "AMT_INCOME_TOTAL"], "msg": "Field required"}]


@pytest.mark.parametrize("text", [b"", b"{", b"nope", b'{"application": {"AMT_CREDIT": }}', b"\xff\xfe", b"[1,"])
def test_what_is_no_json_is_said_to_be_none(text: bytes) -> None:
    with pytest.raises(NotJson):
        decode(PredictRequest, text)


@pytest.mark.parametrize("text", [b"[]", b"null", b"3", b'"text"', b"{}", b'{"application": []}'])
def test_json_of_another_shape_is_invalid(text: bytes) -> None:
    with pytest.raises(Invalid):
        decode(PredictRequest, text)


@pytest.mark.parametrize("client_id", ["", " ", "x" * 65, 3, ["x"]])
def test_a_client_id_is_a_short_text(client_id: Any) -> None:
    with pytest.raises(Invalid) as refusal:
        decode(PredictRequest, json.dumps({"client_id": client_id, "application": APPLICATION}).encode())
    assert [error["loc"] for error in refusal.value.errors] == [["client_id"]]


def test_no_refusal_quotes_a_value() -> None:
    wrong = {"AMT_CREDIT": -SECRET, "AMT_ANNUITY": str(SECRET), "CNT_CHILDREN": SECRET, "NAME_INCOME_TYPE": SECRET}
    with pytest.raises(Invalid) as refusal:
        decode(PredictRequest, body(**wrong))
    assert len(refusal.value.errors) == len(wrong)
    assert "987654321" not in f"{refusal.value} {refusal.value.content('id')} {refusal.value.__cause__}"


@pytest.mark.parametrize("features", [[1.0, "2"], [1.0, float("nan")], [1.0, float("inf")], [True, 1.0], "1,2", None])
def test_a_feature_vector_holds_numbers_and_nulls(features: Any) -> None:
    with pytest.raises(Invalid):
        decode(FeaturesRequest, json.dumps({"features": features}).encode())


def test_a_feature_vector_may_miss_values() -> None:
    assert decode(FeaturesRequest, b'{"features": [1, null, -0.5]}').features == [1.0, None, -0.5]


def test_a_sound_batch_has_nothing_rejected() -> None:
    decoded = batch(APPLICATION, APPLICATION)
    assert (decoded.size, list(decoded.positions), decoded.rejected) == (2, [0, 1], {})


def test_a_bad_application_is_rejected_and_the_others_stay() -> None:
    decoded = batch(APPLICATION, {**APPLICATION, "AMT_CREDIT": -1}, APPLICATION)
    assert (decoded.size, list(decoded.positions), len(decoded.client_ids)) == (3, [0, 2], 3)
    message = "Input should be greater than or equal to 1"
    assert decoded.rejected == {1: [{"loc": ["application", "AMT_CREDIT"], "msg": message}]}


def test_a_batch_may_be_bad_altogether() -> None:
    decoded = batch({}, 3)
    assert (decoded.size, list(decoded.positions), sorted(decoded.rejected)) == (2, [], [0, 1])


@pytest.mark.parametrize("content", [{}, {"applications": []}, {"applications": 3}, {"applications": [], "x": 1}, []])
def test_a_batch_without_applications_is_invalid(content: Any) -> None:
    with pytest.raises(HTTPProblem) as refusal:
        decode_batch(json.dumps(content).encode(), REQUESTS, limit=3, item_bytes=65_536)
    assert refusal.value.status == 422


def test_a_batch_beyond_the_limit_is_invalid() -> None:
    with pytest.raises(Invalid) as refusal:
        batch(*[APPLICATION] * 4)
    assert refusal.value.errors == [{"loc": ["applications"], "msg": "holds more than 3 applications"}]


def test_a_refusal_stays_short_however_much_is_wrong() -> None:
    with pytest.raises(Invalid) as refusal:
        decode(PredictRequest, body(**{f"{i}".rjust(300, "x"): 1 for i in range(1_000)}))
    assert len(refusal.value.errors) <= 200
    assert max(len(part) for error in refusal.value.errors for part in error["loc"]) == 64


@pytest.mark.parametrize("text", [b"", b"{", b'{"applications": [}', b"\xff\xfe", b"[" * 10_000])
def test_a_batch_that_is_no_json_is_said_to_be_none(text: bytes) -> None:
    with pytest.raises(NotJson):
        decode_batch(text, REQUESTS, limit=3, item_bytes=65_536)


ITEM = b'{"application":{"NAME_CONTRACT_TYPE":"Cash loans","AMT_INCOME_TOTAL":100000,"AMT_CREDIT":200000}}'


def read(*items: bytes, limit: int = 1_000, between: bytes = b",", item_bytes: int = 65_536) -> BatchRows:
    body = b'{"applications":[' + between.join(items) + b"]}"
    rows, columns = decode_batch(body, REQUESTS, limit=limit, item_bytes=item_bytes)
    assert len(columns) == len(rows.positions)
    return rows


@pytest.mark.parametrize("between", [b",", b", ", b" ,\n\t", b",\r\n" + b" " * 900, b"," + b" " * 5_000])
@pytest.mark.parametrize(
    "odd",
    [
        b"5", b'"x"', b"null", b"[]", b"[{},{}]", b"{}", b'{"x":[{},{}]}', b'"}, {"',
        b'{"client_id":"},{","application":{}}',
        b'{"client_id":"\\"},{"}', b"-1.5e3", b'"\xc3\xa4"',
    ],
)  # fmt: skip
def test_whatever_an_item_is_the_others_are_scored(odd: bytes, between: bytes) -> None:
    decoded = read(ITEM, odd, ITEM, between=between)
    assert (decoded.size, list(decoded.positions), list(decoded.rejected)) == (3, [0, 2], [1])


@pytest.mark.parametrize("text", ["},{", "}", "]}", '\\"},{\\"', "\u00e4},{\u4e2d\u6587", "a" * 62 + "},"])
def test_a_text_may_hold_what_looks_like_the_end_of_an_application(text: str) -> None:
    named = ITEM.replace(b"{", b'{"client_id":"' + text.encode() + b'",', 1)
    decoded = read(named, ITEM, named)
    said = json.loads(f'"{text}"')
    assert decoded.client_ids == [said, None, said]


@pytest.mark.parametrize(
    "item", [b"{", b"}", b"", b"nope", b'{"application":}', b"\xff", b'"\xff"', b"1 2", b"{}{}", b"[" * 5_000]
)
def test_one_item_that_is_no_json_makes_the_whole_none(item: bytes) -> None:
    with pytest.raises(NotJson):
        read(ITEM, item, ITEM)


@pytest.mark.parametrize("item", [b"[]", b"{}", b"0", b'""', ITEM])
def test_more_items_than_the_limit_are_not_read(item: bytes) -> None:
    assert read(*[item] * 1_000).size == 1_000
    with pytest.raises(Invalid) as refused:
        read(*[item] * 1_001)
    assert refused.value.errors == [{"loc": ["applications"], "msg": "holds more than 1000 applications"}]


@pytest.mark.parametrize("large", [b'"' + b"x" * 200 + b'"', b"[" + b"[]," * 100 + b"[]]", b"{" * 200, b"1" * 200])
def test_an_item_beyond_the_limit_of_a_single_application_is_refused(large: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        read(ITEM, large, *[ITEM] * 9, item_bytes=150)
    assert refused.value.errors == [
        {"loc": ["applications", 1], "msg": "is larger than 150 bytes, or not JSON"},
    ]


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        (b"[]", [{"loc": [], "msg": "Input should be an object"}]),
        (b"5", [{"loc": [], "msg": "Input should be an object"}]),
        (b'"x"', [{"loc": [], "msg": "Input should be an object"}]),
        (b'{"applications":[' + ITEM + b'],"x":1}', [{"loc": ["x"], "msg": "Extra inputs are not permitted"}]),
        (
            b'{"applications":[' + ITEM + b'],"applications":[]}',
            [
                {"loc": ["applications"], "msg": "is stated more than once"},
                {"loc": ["applications"], "msg": "List should have at least 1 item after validation, not 0"},
            ],
        ),
        (
            b'{"applications":[' + ITEM + b'],"applications":[' + ITEM + b"]}",
            [{"loc": ["applications"], "msg": "is stated more than once"}],
        ),
    ],
)
def test_a_batch_of_another_shape_is_named_in_plain_words(body: bytes, errors: list[Any]) -> None:
    with pytest.raises(Invalid) as refused:
        decode_batch(body, REQUESTS, limit=3, item_bytes=65_536)
    assert refused.value.errors == errors


@pytest.mark.parametrize("body", [b"[" + ITEM + b"]", b"5", b'"x"', b"null", b"true"])
def test_the_same_words_for_singles_and_items(body: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        decode(PredictRequest, body)
    assert refused.value.errors == [{"loc": [], "msg": "Input should be an object"}]
    assert read(ITEM, body).rejected == {1: [{"loc": [], "msg": "Input should be an object"}]}


@pytest.mark.parametrize("size", [100, 70_000])
@pytest.mark.parametrize(
    "shape", [b"[%s]", b'{"a":[%s]}', b'{"applications":5,"x":[%s]}', b'{"applications":[1],"x":[%s]}']
)
def test_a_wrong_shape_of_any_size_is_refused(shape: bytes, size: int) -> None:
    with pytest.raises(Invalid):
        decode_batch(shape % (b"[]," * size + b"[]"), REQUESTS, limit=3, item_bytes=65_536)


REPEATED = [
    (ITEM.replace(b'"AMT_CREDIT"', b'"AMT_CREDIT":-5,"AMT_CREDIT"'), "AMT_CREDIT"),
    (ITEM.replace(b"}}", b',"AMT_CREDIT":200000}}'), "AMT_CREDIT"),
    (ITEM.replace(b"}}", b',"AMT_\\u0043REDIT" : 1e5}}'), "AMT_CREDIT"),
    (ITEM.replace(b"}}", b',"NAME_INCOME_TYPE":"\\u003a","NAME_INCOME_TYPE":null}}'), "NAME_INCOME_TYPE"),
    (ITEM.replace(b"{", b'{"client_id":"1","client_id":"2",', 1), "client_id"),
    (ITEM.replace(b"{", b'{"application":{},', 1), "application"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "name"), REPEATED)
def test_a_name_that_is_stated_twice_is_refused_and_named(body: bytes, name: str) -> None:
    loc = ["application", name] if name.isupper() else [name]
    faults = [{"loc": loc, "msg": "is stated more than once"}]
    with pytest.raises(Invalid) as refused:
        decode(PredictRequest, body)
    assert refused.value.errors == faults
    decoded = read(ITEM, body)
    assert (list(decoded.positions), decoded.rejected) == ([0], {1: faults})


def test_a_name_that_is_stated_twice_is_told_before_other_faults() -> None:
    body = ITEM.replace(b'"AMT_CREDIT":200000', b'"AMT_CREDIT":5,"AMT_CREDIT":-1,"x":1,"x":2')
    faults = [
        {"loc": ["application", "AMT_CREDIT"], "msg": "is stated more than once"},
        {"loc": ["application", "x"], "msg": "is stated more than once"},
        {"loc": ["application", "AMT_CREDIT"], "msg": "Input should be greater than or equal to 1"},
        {"loc": ["application", "x"], "msg": "Extra inputs are not permitted"},
    ]
    with pytest.raises(Invalid) as refused:
        decode(PredictRequest, body)
    assert refused.value.errors == faults
    assert read(ITEM, body).rejected == {1: faults}


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"y":1,"y":2,"application":{}}', ["y"]),
        (b'{"application":{},"y":[{},{"a":{"b":1,"b":1}}]}', ["y", 1, "a", "b"]),
        (b'{"application":{},"' + b"z" * 70 + b'":1,"' + b"z" * 70 + b'":1}', ["z" * 64]),
        (b'{"application":{"AMT_CREDIT":' + b"9" * 4_000 + b'},"y":NaN,"y":-Infinity}', ["y"]),
    ],
)
def test_the_place_of_a_name_that_is_stated_twice_is_told(body: bytes, place: list[Any]) -> None:
    with pytest.raises(Invalid) as refused:
        decode(PredictRequest, body)
    assert refused.value.errors[0] == {"loc": place, "msg": "is stated more than once"}


def test_as_many_names_that_are_stated_twice_as_a_refusal_lists() -> None:
    with pytest.raises(Invalid) as refused:
        decode(PredictRequest, b"{" + b",".join(b'"a%d":1,"a%d":1' % (i, i) for i in range(300)) + b"}")
    assert len(refused.value.errors) == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "The body is empty."),
        (b" \r\n", "The body is empty."),
        (b"\xef\xbb\xbf", "The body is empty."),
        (b"[" * 10_000, "The body is nested too deeply."),
        (b'{"application":' * 300 + b"1" + b"}" * 300, "The body is nested too deeply."),
        (b"{", "The body is not JSON in UTF-8."),
        (b"recursion limit exceeded", "The body is not JSON in UTF-8."),
    ],
)
def test_what_is_no_json_is_said_as_it_is(body: bytes, said: str) -> None:
    with pytest.raises(NotJson) as single:
        decode(PredictRequest, body)
    with pytest.raises(NotJson) as batch:
        decode_batch(body, REQUESTS, limit=3, item_bytes=65_536)
    assert (single.value.detail, batch.value.detail) == (said, said)


def test_names_of_a_feature_vector_are_not_repeated() -> None:
    with pytest.raises(Invalid) as refused:
        decode(FeaturesRequest, b'{"features":[1],"features":[2]}')
    assert refused.value.errors == [{"loc": ["features"], "msg": "is stated more than once"}]


def test_colons_within_texts_are_no_names() -> None:
    named = ITEM.replace(b"{", b'{"client_id":"urn:a:\\":b",', 1)
    assert decode(PredictRequest, named).client_id == 'urn:a:":b'
    assert decode(PredictRequest, ITEM.replace(b"}}", b',"ORGANIZATION_TYPE":"Trade: type 7"}}')).client_id is None


def test_a_byte_order_mark_is_passed_over() -> None:
    mark = b"\xef\xbb\xbf"
    assert decode(PredictRequest, mark + ITEM) == decode(PredictRequest, ITEM)
    assert decode_batch(mark + b'{"applications":[' + ITEM + b"]}", REQUESTS, limit=3, item_bytes=9_999)[0].size == 1
    with pytest.raises(NotJson):
        decode(PredictRequest, "text".encode("utf-16"))


@pytest.mark.slow
def test_the_faults_of_a_batch_are_bounded() -> None:
    wrong = b'{"application":{' + b",".join(b'"x%d":1' % i for i in range(150)) + b"}}"
    decoded = read(*[wrong] * 1_000)
    assert sum(map(len, decoded.rejected.values())) < 3_000
    assert min(map(len, decoded.rejected.values())) == 1


@pytest.mark.parametrize("odd", [b"[" + b"[]," * 3_000 + b"[]]", b'{"a":[' + b"{}," * 3_000 + b"{}]}"])
def test_what_would_take_a_parser_long_is_refused_unread(odd: bytes) -> None:
    message = "holds too many names, lists or objects for an application"
    assert read(ITEM, odd, ITEM).rejected == {1: [{"loc": [], "msg": message}]}


def test_a_batch_of_lists_is_refused_before_all_of_it_is_read() -> None:
    nested = b"[" + b"[]," * 3_000 + b"[]]"
    with pytest.raises(Invalid) as refused:
        read(*[nested] * 100, b"nope")
    assert refused.value.errors == [{"loc": ["applications"], "msg": "holds too many lists and objects"}]


COLUMNS = [column.name for column in REQUESTS.applications.schema]
CELLS = st.sampled_from([
    None, True, False, 0, -0.0, 1, 1.5, 1.0000000001, -1, 365243, 365243.0, 2**53 + 1, 10**400, 1e300, "", "XNA", "a:b",
    "[b", "{:", "Working", "x" * 101, "\\:", [], {}, float("nan"),
])  # fmt: skip
CLIENTS = st.sampled_from([None, "7", "a-b", " ", "", "\x1f", "x" * 64, "x" * 65, "a:b", 7, [1]])


@settings(max_examples=150, deadline=None)
@given(
    items=st.lists(
        st.tuples(st.dictionaries(st.sampled_from([*COLUMNS, "x"]), CELLS, max_size=5), CLIENTS), min_size=1, max_size=6
    ),
    whole=st.booleans(),
)
def test_an_application_is_read_in_a_batch_as_alone(items: list[tuple[dict[str, Any], Any]], whole: bool) -> None:
    bodies = [
        json.dumps({"client_id": client, "application": {**(COMPLETE if whole else APPLICATION), **cells}}).encode()
        for cells, client in items
    ]
    rows, columns = decode_batch(b'{"applications":[' + b",".join(bodies) + b"]}", REQUESTS, limit=9, item_bytes=65_536)
    scored = iter(range(len(columns)))
    for place, body in enumerate(bodies):
        if place in rows.rejected:
            with pytest.raises(Invalid) as refused:
                decode(PredictRequest, body)
            assert rows.rejected[place] == refused.value.errors
            continue
        request = decode(PredictRequest, body)
        alone, row = REQUESTS.applications.columns_of([request.application]), next(scored)
        assert rows.client_ids[place] == request.client_id
        assert columns.numbers[row].tobytes() == alone.numbers[0].tobytes()
        assert columns.levels[row].tolist() == alone.levels[0].tolist()


@pytest.mark.parametrize(
    "item",
    [
        b'{"application":{"NAME_CONTRACT_TYPE":"a:b","NAME_CONTRACT_TYPE":"a","AMT_INCOME_TOTAL":1,"AMT_CREDIT":1}}',
        b'{"application":{"NAME_CONTRACT_TYPE":"a[b","NAME_CONTRACT_TYPE":"a","AMT_INCOME_TOTAL":1,"AMT_CREDIT":1}}',
        b'{"application":{"NAME_CONTRACT_TYPE":"a\\u003ab","AMT_INCOME_TOTAL":1,"AMT_CREDIT":1,"AMT_CREDIT":1}}',
        b'{"client_id":"1","client_id":"2","application":{"NAME_CONTRACT_TYPE":"a","AMT_INCOME_TOTAL":1,"AMT_CREDIT":1}}',
    ],
)
def test_a_name_stated_twice_is_refused_in_a_batch(item: bytes) -> None:
    [(place, faults)] = read(ITEM, item).rejected.items()
    assert (place, faults[0]["msg"]) == (1, "is stated more than once")
    with pytest.raises(Invalid) as refused:
        decode(PredictRequest, item)
    assert refused.value.errors == faults


def test_a_name_that_is_not_declared_is_told_among_as_many_as_are() -> None:
    misspelt = {("AMT_ANUITY" if name == "AMT_ANNUITY" else name): value for name, value in COMPLETE.items()}
    rejected = batch(COMPLETE, misspelt).rejected
    assert rejected == {1: [{"loc": ["application", "AMT_ANUITY"], "msg": "Extra inputs are not permitted"}]}


def test_a_batch_of_several_parts_keeps_the_order() -> None:
    numbered = [ITEM.replace(b"100000", b"%d" % i) for i in range(1, 251)]
    numbered[150] = b"{}"
    body = b'{"applications":[' + b",".join(numbered) + b"]}"
    rows, columns = decode_batch(body, REQUESTS, limit=250, item_bytes=65_536)
    assert (rows.size, list(rows.rejected)) == (250, [150])
    at = REQUESTS.applications.schema.position["AMT_INCOME_TOTAL"]
    assert columns.numbers[:, at].tolist() == [float(i) for i in range(1, 251) if i != 151]
