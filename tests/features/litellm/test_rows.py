"""A database that lacks what is read, or whose keys are not digests, is refused before anything is written. Another
version is read with a warning."""

from __future__ import annotations

import pytest
from fixtures.litellm_database import LiteLLM, digest_of

from gateway.core.errors import CannotRun
from gateway.features.litellm.rows import read_database

pytestmark = pytest.mark.dialect


def test_every_table_of_the_known_version_is_read(litellm: LiteLLM) -> None:
    litellm.add("LiteLLM_VerificationToken", token=digest_of(1), key_alias="web", models=[])
    found = read_database(litellm.url)
    assert [key["key_alias"] for key in found.keys] == ["web"]
    assert found.teams == found.organizations == found.windows == []


def test_prismas_own_parameters_of_the_url_do_no_harm(litellm: LiteLLM) -> None:
    url = f"{litellm.url}&schema=public&connection_limit=5&pool_timeout=60&pgbouncer=true"
    assert read_database(url).keys == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            "INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES ('z', '', '2099_x')",
            "in the middle of a migration: 2099_x began and did not end",
        ),
        (
            'ALTER TABLE "LiteLLM_VerificationToken" DROP COLUMN budget_limits',
            "lacks LiteLLM_VerificationToken.budget_limits",
        ),
        ('DROP TABLE "LiteLLM_BudgetWindowSpend"', "lacks LiteLLM_BudgetWindowSpend of LiteLLM 1.110"),
    ],
)
def test_half_a_migration_or_a_lacking_column_is_refused(litellm: LiteLLM, spoil: str, message: str) -> None:
    litellm.run(spoil)
    with pytest.raises(CannotRun, match=message):
        read_database(litellm.url)


@pytest.mark.parametrize(
    ("spoil", "warning"),
    [
        ("DROP TABLE _prisma_migrations", "it has no table _prisma_migrations, so its version is unknown"),
        ("DELETE FROM _prisma_migrations WHERE migration_name LIKE '2026%%'", "its newest migration is 2025"),
        (
            "INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at) "
            "VALUES ('z', '', '2099_x', now())",
            "its newest migration is 2099_x, and that of LiteLLM 1.110 is 2026",
        ),
    ],
)
def test_another_version_with_all_columns_is_read_with_a_warning(litellm: LiteLLM, spoil: str, warning: str) -> None:
    assert read_database(litellm.url).warnings == ()
    litellm.run(spoil)
    found = read_database(litellm.url)
    assert found.warnings[0].startswith(warning)
    assert "compare the preview with LiteLLM" in found.warnings[0]
    assert found.keys == []


def test_a_migration_that_was_rolled_back_and_applied_again_is_whole(litellm: LiteLLM) -> None:
    litellm.run(
        "INSERT INTO _prisma_migrations (id, checksum, migration_name, rolled_back_at) "
        "SELECT 'again', '', migration_name, now() FROM _prisma_migrations WHERE id = '7'"
    )
    assert read_database(litellm.url).keys == []


def test_keys_in_the_clear_are_refused_without_being_shown(litellm: LiteLLM) -> None:
    litellm.add("LiteLLM_VerificationToken", token=digest_of(1), key_alias="good", models=[])
    litellm.add("LiteLLM_VerificationToken", token="sk-in-the-clear", key_alias="old", models=[])
    with pytest.raises(CannotRun, match="1 of 2 keys are not stored as SHA-256 digests: old;") as raised:
        read_database(litellm.url)
    assert "sk-in-the-clear" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///x.db", "--database-url: expected postgresql"),
        ("mysql://a@b/c", "--database-url: mysql is not supported"),
        ("nonsense", "--database-url is not a URL"),
        ("postgresql://nobody:hunter2@127.0.0.1:1/x", r"nobody:\*\*\*@127.0.0.1:1/x cannot be read"),
    ],
)
def test_a_url_that_leads_nowhere_is_named_without_its_password(url: str, message: str) -> None:
    with pytest.raises(CannotRun, match=message) as raised:
        read_database(url)
    assert "hunter2" not in str(raised.value)
