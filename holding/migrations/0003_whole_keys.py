"""Keys over all that must agree: a seat's unit is its division's, an agent's its seat's, an incumbency's all its agent's.

Each replaces two or three keys over single columns, which the database checked one by one and which could
disagree; indexes that begin like another one are gone.
"""

import django.db.models.deletion
from django.db import migrations, models

FORWARD = """
drop index holding_agent_unit_id_2562ca1f, holding_agent_seat_id_ff66c578, holding_agent_blueprint_id_02ac0e01,
    holding_seat_unit_id_91c63b69, holding_seat_division_id_8208af8b, holding_seat_body_id_f3ac5c19,
    holding_incumbency_seat_id_15fad0ce;
alter table holding_seat
    drop constraint holding_seat_unit_id_91c63b69_fk_holding_unit_id,
    drop constraint holding_seat_division_id_8208af8b_fk_holding_division_id,
    add constraint seat_division_of_unit foreign key (division_id, unit_id)
        references holding_division (id, unit_id) deferrable initially deferred;
alter table holding_agent
    drop constraint holding_agent_unit_id_2562ca1f_fk_holding_unit_id,
    drop constraint holding_agent_seat_id_ff66c578_fk_holding_seat_id,
    add constraint agent_seat_of_unit foreign key (seat_id, unit_id)
        references holding_seat (id, unit_id) deferrable initially deferred;
alter table holding_incumbency
    drop constraint holding_incumbency_seat_id_15fad0ce_fk_holding_seat_id,
    drop constraint holding_incumbency_agent_id_641363e0_fk_holding_agent_id,
    add constraint incumbency_of_agent foreign key (agent_id, seat_id, generation)
        references holding_agent (id, seat_id, generation) deferrable initially deferred;
"""
BACKWARD = """
alter table holding_incumbency
    drop constraint incumbency_of_agent,
    add constraint holding_incumbency_seat_id_15fad0ce_fk_holding_seat_id foreign key (seat_id)
        references holding_seat (id) deferrable initially deferred,
    add constraint holding_incumbency_agent_id_641363e0_fk_holding_agent_id foreign key (agent_id)
        references holding_agent (id) deferrable initially deferred;
alter table holding_agent
    drop constraint agent_seat_of_unit,
    add constraint holding_agent_unit_id_2562ca1f_fk_holding_unit_id foreign key (unit_id)
        references holding_unit (id) deferrable initially deferred,
    add constraint holding_agent_seat_id_ff66c578_fk_holding_seat_id foreign key (seat_id)
        references holding_seat (id) deferrable initially deferred;
alter table holding_seat
    drop constraint seat_division_of_unit,
    add constraint holding_seat_unit_id_91c63b69_fk_holding_unit_id foreign key (unit_id)
        references holding_unit (id) deferrable initially deferred,
    add constraint holding_seat_division_id_8208af8b_fk_holding_division_id foreign key (division_id)
        references holding_division (id) deferrable initially deferred;
create index holding_agent_unit_id_2562ca1f on holding_agent (unit_id);
create index holding_agent_seat_id_ff66c578 on holding_agent (seat_id);
create index holding_agent_blueprint_id_02ac0e01 on holding_agent (blueprint_id);
create index holding_seat_unit_id_91c63b69 on holding_seat (unit_id);
create index holding_seat_division_id_8208af8b on holding_seat (division_id);
create index holding_seat_body_id_f3ac5c19 on holding_seat (body_id);
create index holding_incumbency_seat_id_15fad0ce on holding_incumbency (seat_id);
"""


class Migration(migrations.Migration):
    dependencies = [("holding", "0002_identities")]

    operations = [
        migrations.AddIndex(
            model_name="seat",
            index=models.Index(condition=models.Q(("body__isnull", False)), fields=["body"], name="seat_of_body"),
        ),
        migrations.AddConstraint(
            model_name="agent",
            constraint=models.UniqueConstraint(fields=("id", "seat", "generation"), name="agent_in_seat"),
        ),
        migrations.AddConstraint(
            model_name="division",
            constraint=models.UniqueConstraint(fields=("id", "unit"), name="division_in_unit"),
        ),
        migrations.AddConstraint(
            model_name="seat",
            constraint=models.UniqueConstraint(fields=("id", "unit"), name="seat_in_unit"),
        ),
        # Django would drop every index over the same single column, conditional unique ones included.
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(FORWARD, BACKWARD)],
            state_operations=[
                migrations.AlterField(
                    model_name="agent",
                    name="blueprint",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        to="holding.blueprintversion",
                        verbose_name="blueprint",
                    ),
                ),
                migrations.AlterField(
                    model_name="agent",
                    name="seat",
                    field=models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="agents",
                        to="holding.seat",
                        verbose_name="seat",
                    ),
                ),
                migrations.AlterField(
                    model_name="agent",
                    name="unit",
                    field=models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        to="holding.unit",
                        verbose_name="unit",
                    ),
                ),
                migrations.AlterField(
                    model_name="incumbency",
                    name="agent",
                    field=models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="incumbencies",
                        to="holding.agent",
                        verbose_name="agent",
                    ),
                ),
                migrations.AlterField(
                    model_name="incumbency",
                    name="seat",
                    field=models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="incumbencies",
                        to="holding.seat",
                        verbose_name="seat",
                    ),
                ),
                migrations.AlterField(
                    model_name="seat",
                    name="body",
                    field=models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        to="holding.body",
                        verbose_name="body",
                    ),
                ),
                migrations.AlterField(
                    model_name="seat",
                    name="division",
                    field=models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        to="holding.division",
                        verbose_name="division",
                    ),
                ),
                migrations.AlterField(
                    model_name="seat",
                    name="unit",
                    field=models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        to="holding.unit",
                        verbose_name="unit",
                    ),
                ),
            ],
        ),
    ]
