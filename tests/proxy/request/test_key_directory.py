"""One process's view of dynamic keys: changes are applied completely, and unreadable records stay as they were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.core.keys import AnyRecord, KeyRecord, OrganizationRecord, TeamRecord
from gateway.proxy.request.key_directory import STALE_S, KeyDirectory
from gateway.stream.directory import DirectoryChanges, DirectoryHead, name_of

HEAD = DirectoryHead("e1", 1, 1, "f")
KEY = KeyRecord("key_1", "web", (("a" * 64, None),), {}, team="search")
TEAM = TeamRecord("search", {}, "acme")
ACME = OrganizationRecord("acme", {})


def changes(*records: AnyRecord, complete: bool = False, **malformed: str) -> DirectoryChanges:
    found = {name.replace("_", ":", 1): why for name, why in malformed.items()}
    return DirectoryChanges(HEAD, complete, {name_of(record): record for record in records}, found)


def digests(directory: KeyDirectory) -> dict[str, str]:
    return {digest.hex()[:1]: record.id for digest, record in directory.by_digest.items()}


def filled(**options: Any) -> KeyDirectory:
    directory = KeyDirectory(**options)
    directory.apply(changes(ACME, TEAM, KEY, complete=True))
    return directory


def test_records_are_found_by_id_and_keys_by_their_digests() -> None:
    directory = filled()
    assert (directory.organizations, directory.teams, directory.keys) == (
        {"acme": ACME}, {"search": TEAM}, {"key_1": KEY},
    )  # fmt: skip
    assert digests(directory) == {"a": "key_1"}
    assert list(directory.records()) == [ACME, TEAM, KEY]
    assert len(directory) == 3


def test_a_change_replaces_one_record_and_its_digests() -> None:
    directory = filled()
    before = directory.changes
    directory.apply(changes(replace(KEY, digests=(("b" * 64, None), ("c" * 64, 9.0)))))
    assert digests(directory) == {"b": "key_1", "c": "key_1"}
    assert directory.changes > before
    assert directory.teams == {"search": TEAM}


def test_a_complete_read_keeps_malformed_keys_only() -> None:
    directory = filled()
    directory.apply(changes(ACME, complete=True, key_key_1="odd"))
    assert directory.teams == {}
    assert directory.keys == {"key_1": KEY}
    assert digests(directory) == {"a": "key_1"}


def test_only_answers_of_keys_that_ask_for_it_end_and_only_once() -> None:
    directory = filled()
    off, ending = replace(KEY, disabled=True), replace(KEY, disabled=True, end_streams=True)
    assert directory.apply(changes(off)) == set()
    assert directory.apply(changes(ending)) == {"web"}
    assert directory.apply(changes(ending)) == set()
    assert directory.apply(changes(ending, complete=True)) == set()


def test_mappings_stay_the_same_objects() -> None:
    directory = filled()
    teams = directory.teams
    directory.apply(changes(complete=True))
    assert teams is directory.teams
    assert teams == {}


def test_an_unconfirmed_directory_is_stale() -> None:
    now = [100.0]
    directory = filled(clock=lambda: now[0])
    assert directory.stale
    assert directory.age_s is None
    directory.confirm()
    assert not directory.stale
    now[0] += STALE_S + 1
    assert directory.stale
    directory.confirm(age_s=3600.0)
    assert directory.report() == {"version": 1, "source": "stream", "keys": 1, "age_s": 3600.0}
