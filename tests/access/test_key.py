from __future__ import annotations

import hmac
from hashlib import blake2b

import pytest
from pydantic import ValidationError

import serving.authentication
from scoring.keys import Key, Scope, issue
from serving.authentication import Grants
from serving.settings import AccessSettings
from tests.keys import CREATED

SETTINGS = AccessSettings(open=(), requests_per_second=5, burst_seconds=1, reload_seconds=1)


def grants(*keys: Key) -> Grants:
    return Grants(keys, SETTINGS)


def test_a_key_is_random_and_what_is_kept_of_it_is_its_salted_hash() -> None:
    first, second = (issue("a", (Scope.PREDICT,), created=CREATED) for _ in range(2))
    assert len({first.secret, second.secret}) == 2
    assert len({first.key.salt, second.key.salt}) == 2
    salt = bytes.fromhex(first.key.salt)
    assert first.key.digest == blake2b(first.secret.encode(), digest_size=32, salt=salt).hexdigest()
    assert first.secret.removeprefix(f"csk_{first.key.id}_") not in f"{first!r}{first.key.model_dump_json()}"
    assert len(bytes.fromhex(first.secret.rpartition("_")[2])) == 32


def test_a_key_is_found_and_has_the_scopes_it_was_given() -> None:
    issued = issue("a", (Scope.PREDICT, Scope.ADMIN), created=CREATED)
    found = grants(issued.key).find(issued.secret.encode())
    assert found is not None
    assert found.scopes == (Scope.PREDICT, Scope.ADMIN)


def test_what_differs_from_a_key_in_any_character_is_not_it() -> None:
    issued = issue("a", (Scope.PREDICT,), created=CREATED)
    given, known = issued.secret.encode(), grants(issued.key)
    for place in range(len(given)):
        assert known.find(given[:place] + b"g" + given[place + 1 :]) is None
    for other in (b"", given[:-1], given + b"0", given.upper(), b"\xff" * len(given), given * 1000):
        assert known.find(other) is None


def test_the_id_of_one_key_with_the_rest_of_another_is_no_key() -> None:
    one, other = (issue(name, (Scope.PREDICT,), created=CREATED) for name in "ab")
    mixed = one.secret[:17] + other.secret[17:]
    assert grants(one.key, other.key).find(mixed.encode()) is None


@pytest.mark.parametrize("known", [True, False])
def test_every_key_is_hashed_and_compared_in_constant_time_known_or_not(
    monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    issued, stranger = (issue("a", (Scope.PREDICT,), created=CREATED) for _ in range(2))
    monkeypatch.setattr(serving.authentication, "compare_digest", compare)
    found = grants(issued.key).find((issued if known else stranger).secret.encode())
    assert (found is not None, compared) == (known, [(32, 32)])


def test_a_key_may_have_a_rate_of_its_own() -> None:
    common = issue("a", (Scope.PREDICT,), created=CREATED)
    own = issue("b", (Scope.PREDICT,), created=CREATED, requests_per_second=2)
    known = grants(common.key, own.key)
    taken = {}
    for issued in (common, own):
        grant = known.find(issued.secret.encode())
        assert grant is not None
        taken[issued.key.name] = sum(grant.bucket.take(0.0) == 0 for _ in range(20))
    assert taken == {"a": 5, "b": 2}


@pytest.mark.parametrize("rate", [0.001, 1.0, None])
def test_a_rate_of_its_own_may_be_any_above_nothing(rate: float | None) -> None:
    assert issue("a", (Scope.PREDICT,), created=CREATED, requests_per_second=rate).key.requests_per_second == rate


@pytest.mark.parametrize("rate", [0.0, -1.0])
def test_a_rate_of_nothing_is_no_rate(rate: float) -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        issue("a", (Scope.PREDICT,), created=CREATED, requests_per_second=rate)


def test_a_key_that_stays_keeps_its_bucket() -> None:
    issued = issue("a", (Scope.PREDICT,), created=CREATED)
    before = grants(issued.key)
    first = before.find(issued.secret.encode())
    later = Grants([issued.key], SETTINGS, before).find(issued.secret.encode())
    assert first is not None
    assert later is not None
    assert later.bucket is first.bucket
