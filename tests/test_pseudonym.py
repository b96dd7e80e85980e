"""Names become pseudonyms: the same in one home, others in another, and nothing to try names against."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cai.errors import DataError
from cai.labels.pseudonym import SALT_FILE, load_salt, pseudonym


def test_a_pseudonym_is_the_keyed_hash_of_the_name():
    # RFC 4231, test case 2: HMAC-SHA-256 with the key "Jefe".
    assert pseudonym("what do ya want for nothing?", b"Jefe") == "5bdcc146bf60754e6a042426089575c7"


def test_space_around_a_name_does_not_make_another_person_and_no_name_stays_none():
    assert pseudonym(" ada\n", b"salt") == pseudonym("ada", b"salt") != pseudonym("eve", b"salt")
    assert pseudonym("", b"salt") == pseudonym("  ", b"salt") == ""


def test_a_home_keeps_its_salt_and_only_its_owner_reads_it(tmp_path):
    salt = load_salt(tmp_path / "new" / "home")
    assert load_salt(tmp_path / "new" / "home") == salt != load_salt(tmp_path / "other")
    assert (tmp_path / "new" / "home" / SALT_FILE).stat().st_mode & 0o777 == 0o600
    assert [p.name for p in (tmp_path / "new" / "home").iterdir()] == [SALT_FILE]


def test_processes_that_start_at_once_share_one_salt(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: load_salt(tmp_path), range(64)))) == 1


def test_a_torn_salt_is_an_error_and_not_a_new_salt(tmp_path):
    (tmp_path / SALT_FILE).write_bytes(b"torn")
    with pytest.raises(DataError, match="expected 32 bytes of salt in .*, got 4; restore it"):
        load_salt(tmp_path)
    assert (tmp_path / SALT_FILE).read_bytes() == b"torn"
