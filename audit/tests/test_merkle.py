"""The Merkle tree against the test vectors of Certificate Transparency (RFC 6962), and against its definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import merkle

# certificate-transparency: the leaves of the reference implementation and the root after each of them.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def tree(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return merkle.EMPTY_ROOT
    if len(leaves) == 1:
        return merkle.leaf_hash(leaves[0])
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return merkle.node_hash(tree(leaves[:split]), tree(leaves[split:]))


def test_the_empty_log() -> None:
    assert merkle.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", range(1, len(LEAVES) + 1))
def test_the_vectors_of_certificate_transparency(size: int) -> None:
    peaks, grown = merkle.append([], 0, [merkle.leaf_hash(leaf) for leaf in LEAVES[:size]])
    assert (merkle.root(peaks).hex(), grown) == (ROOTS[size - 1], size)


@given(st.lists(st.binary(max_size=8), max_size=70), st.integers(0, 70))
def test_appending_in_any_steps_is_the_tree_of_all(leaves: list[bytes], cut: int) -> None:
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    peaks, size = merkle.append([], 0, hashes[:cut])
    peaks, size = merkle.append(peaks, size, hashes[cut:])
    assert merkle.root(peaks) == tree(leaves)
    assert len(peaks) == size.bit_count()


def test_peaks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not make a log"):
        merkle.append([b"x" * 32], 3, [])
