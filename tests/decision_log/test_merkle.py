"""Merkle trees: the vectors of RFC 6962's reference implementation, and paths that lead to the root."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decision_log.checkpoints import MerkleTree, audit_path, leaf_hash, node_hash, root_from_path

ENTRIES = [
    bytes.fromhex(text)
    for text in (
        *("", "00", "10", "2021", "3031", "40414243", "5051525354555657"),
        "606162636465666768696a6b6c6d6e6f",
    )
]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
# certificate-transparency, merkletree/merkle_tree_test.cc
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# The same file: tree size, index, path from below.
PATHS = [
    (1, 0, []),
    (
        8,
        0,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        8,
        5,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (3, 2, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        5,
        1,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
HASHES = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40)


@pytest.mark.parametrize(("size", "root"), list(enumerate(ROOTS)))
def test_a_tree_has_the_root_of_the_reference(size: int, root: str) -> None:
    assert MerkleTree.of(LEAVES[:size]).root().hex() == root


@pytest.mark.parametrize(("size", "index", "path"), PATHS)
def test_a_path_is_that_of_the_reference(size: int, index: int, path: list[str]) -> None:
    assert [one.hex() for one in audit_path(LEAVES[:size], index)] == path
    found = root_from_path(LEAVES[index], index, size, [bytes.fromhex(one) for one in path])
    assert found == bytes.fromhex(ROOTS[size])


@given(HASHES, st.integers(0, 39))
def test_every_path_leads_to_the_root_and_no_shorter_or_longer_one_does(leaves: list[bytes], index: int) -> None:
    index %= len(leaves)
    path, root = audit_path(leaves, index), MerkleTree.of(leaves).root()
    assert root_from_path(leaves[index], index, len(leaves), path) == root
    assert root_from_path(leaves[index], index, len(leaves), [*path, leaves[0]]) != root
    assert path == [] or root_from_path(leaves[index], index, len(leaves), path[:-1]) != root


@given(HASHES)
def test_a_copy_grows_on_its_own(leaves: list[bytes]) -> None:
    tree = MerkleTree.of(leaves)
    copy = tree.copy()
    copy.add(leaf_hash(b"more"))
    assert (tree.root(), copy.root()) == (
        MerkleTree.of(leaves).root(),
        MerkleTree.of([*leaves, leaf_hash(b"more")]).root(),
    )
    assert (tree.size, copy.size) == (len(leaves), len(leaves) + 1)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_there_is_no_path_for_a_leaf_that_is_not_there(index: int, size: int) -> None:
    assert root_from_path(LEAVES[0], index, size, []) is None
    with pytest.raises(IndexError):
        audit_path(LEAVES[:size], index)


def test_a_line_cannot_pass_for_an_inner_node() -> None:
    left, right = LEAVES[:2]
    assert leaf_hash(left + right) != node_hash(left, right)
