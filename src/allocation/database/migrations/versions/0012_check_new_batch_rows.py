"""The last line of defence for the parts of a batch. New rows are held to it from here on, old ones by the
next revision."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

CHECKS = {
    "batches": {
        "batches_parts": "held_quantity >= 0 AND dispatched_quantity >= 0 AND quarantined_quantity >= 0 "
        "AND held_quantity + dispatched_quantity + quarantined_quantity <= allocated_quantity",
        "batches_dispatched_are_here": "dispatched_quantity = 0 OR eta IS NULL",
    },
    "allocations": {"allocations_quantities": "qty >= 0 AND dispatched >= 0"},
}


def upgrade() -> None:
    for table, checks in CHECKS.items():
        for name, rule in checks.items():
            op.create_check_constraint(name, table, rule, postgresql_not_valid=True)


def downgrade() -> None:
    for table, checks in CHECKS.items():
        for name in checks:
            op.drop_constraint(name, table)
