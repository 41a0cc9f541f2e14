"""The pages of commands: who sees and gives what, what is said before it is given, and what becomes of it."""

import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from holding.models import Seat, Suspension, Unit
from portal import versions
from portal.commands import pauses_of, with_pauses
from portal.tests.offices import SignIn, text
from subsidiaries.commands import handlers, services
from subsidiaries.commands.models import Command, Target
from subsidiaries.commands.tests.factories import give, obey, refuse, states
from subsidiaries.replacement import observing
from subsidiaries.replacement.models import Monitor
from subsidiaries.replacement.tests.factories import bring_to_life

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("officers")]
assert handlers  # presence is heard once they are imported, as in the process that takes it
REASON = "prices of yesterday"


@pytest.fixture(autouse=True)
def holding(officers: None) -> None:
    observing.ensure_states()
    now = timezone.now()
    Monitor.objects.create(since=now - timedelta(minutes=10), last_at=now)
    bring_to_life()


def shown(client: Client, path: str = "/commands/new/") -> dict[str, str]:
    """What the form says when it is opened: what is chosen or filled in."""
    page = text(client.get(path))
    inputs = dict(re.findall(r'<input type="(?:hidden|number|text)" name="(\w+)" value="([^"]*)"', page))
    for name, options in re.findall(r'<select name="(\w+)".*?>(.*?)</select>', page, re.S):
        chosen = re.search(r'<option value="([^"]*)" selected', options)
        inputs[name] = chosen[1] if chosen else ""
    return {name: value for name, value in inputs.items() if name != "csrfmiddlewaretoken"}


def fill(client: Client, **fields: str) -> dict[str, str]:
    return {**shown(client), "verb": "pause", "unit": "pricing", "reason": REASON, **fields}


def post(client: Client, fields: dict[str, str], **more: str) -> Any:
    return client.post("/commands/new/", {**fields, **more})


def confirmed(client: Client, *, minutes_ago: int = 0) -> None:
    """Let the person have shown who they are, so long ago."""
    session = client.session
    session["confirmed_at"] = int(time.time()) - minutes_ago * 60
    session.save()


# --- giving one --------------------------------------------------------------------------------------------


def test_an_empty_list_says_what_a_command_is(sign_in: SignIn) -> None:
    page = text(sign_in("carla").get("/commands/"))
    assert "No command is under way." in page
    assert "No command matches." in page


def test_the_preview_says_how_many_and_orders_nothing(sign_in: SignIn) -> None:
    dora = sign_in("dora")
    preview = post(dora, fill(dora))
    assert preview.status_code == 200
    unit = Unit.objects.get(slug="pricing")
    seats, divisions = Seat.objects.filter(unit=unit).count(), unit.division_set.count()
    assert f"{seats} agents, {divisions} divisions, 1 unit" in text(preview)
    assert REASON in text(preview)
    assert Command.objects.count() == Suspension.objects.count() == 0


def test_a_command_is_given_once_however_often_the_form_is_sent(sign_in: SignIn) -> None:
    dora = sign_in("dora")
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', text(post(dora, fill(dora)))))
    answers = [post(dora, fields, confirm="1") for _again in range(2)]
    command = Command.objects.get()
    assert [one.status_code for one in answers] == [302, 302]
    assert {one.headers["Location"] for one in answers} == {f"/commands/{command.pk}/"}
    assert (command.verb, command.unit.slug, command.actor, command.reason) == ("pause", "pricing", "dora", REASON)
    page = text(dora.get(f"/commands/{command.pk}/"))
    assert "The command is given." in page
    assert f"0 of {command.targets.count()} divisions have obeyed." in page


def test_one_agent_a_role_or_a_division_alone(sign_in: SignIn) -> None:
    dora = sign_in("dora")
    assert "1 agent, 1 division, 1 unit" in text(post(dora, fill(dora, seat="OP-0031")))
    assert "op-0031" in text(post(dora, fill(dora, seat="OP-0031")))
    operators = Seat.objects.filter(unit__slug="pricing", role__slug="operator").count()
    assert f"{operators} agents" in text(post(dora, fill(dora, role="operator")))
    first = Seat.objects.filter(division__key="pricing.1").count()
    assert f"{first} agents, 1 division" in text(post(dora, fill(dora, division="pricing.1")))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"reason": " "}, "This field is required."),
        ({"percent": "0"}, "greater than or equal to 1"),
        ({"seat": "op-9999"}, "There is no seat “op-9999” in “pricing”."),
        ({"unit": "", "seat": "op-0031"}, "Choose the unit of the agent too."),
        ({"division": "tax.1"}, "Select a valid choice"),
        ({"verb": "resume"}, "Nothing of this is paused."),
        ({"verb": "resume", "lifts": "999"}, "There is no command 999."),
        ({"verb": "report", "role": "operator"}, "A role is named only to pause, resume or retire"),
        ({"presence_interval_s": "2"}, "Only the command for settings of hosts takes settings."),
        ({"unit": ""}, "This needs the permission commands.pause for holding."),
        ({"unit": "tax"}, "Select a valid choice"),
        ({"verb": "retire"}, "Select a valid choice"),
        ({"key": "x"}, "The form has expired; open it again."),
    ],
)
def test_what_cannot_be_ordered_is_an_error_of_the_form(
    sign_in: SignIn, fields: dict[str, str], words: str
) -> None:
    dora = sign_in("dora")
    for more in ({}, {"confirm": "1"}):
        refused = post(dora, fill(dora, **fields), **more)
        assert refused.status_code == 422
        assert words in text(refused), re.findall("role=.alert.*", text(refused))
    assert Command.objects.count() == 0


def test_the_whole_holding_and_a_retirement_ask_who_it_is(sign_in: SignIn) -> None:
    carla = sign_in("carla")
    for fields in ({"unit": ""}, {"verb": "retire"}):
        confirmed(carla, minutes_ago=11)
        for more in ({}, {"confirm": "1"}):
            led = post(carla, fill(carla, **fields), **more)
            assert led.status_code == 302
            assert led.headers["Location"].startswith("/account/confirm/?next=%2Fcommands%2Fnew%2F%3Fverb%3D")
        assert Command.objects.count() == 0
        confirmed(carla)
        assert "not given yet" in text(post(carla, fill(carla, **fields)))
    assert post(carla, fill(carla, unit=""), confirm="1").status_code == 302
    assert Command.objects.get().scope == "all"


def test_a_pause_of_the_own_unit_waits_for_no_password(sign_in: SignIn) -> None:
    dora = sign_in("dora")
    confirmed(dora, minutes_ago=500)
    assert post(dora, fill(dora), confirm="1").status_code == 302
    assert Command.objects.get().scope == "unit"


def test_the_form_is_filled_in_by_its_address(sign_in: SignIn) -> None:
    found = shown(sign_in("carla"), "/commands/new/?verb=resume&unit=tax&lifts=7&percent=20")
    assert (found["verb"], found["unit"], found["lifts"], found["percent"]) == ("resume", "tax", "7", "20")


# --- seeing them -------------------------------------------------------------------------------------------


def test_a_unit_sees_its_own_and_only_who_may_acts(sign_in: SignIn) -> None:
    mine, whole = give(unit="pricing", percent=20), give(reason="everybody")
    path = f"/commands/{mine.pk}/"
    dora, tomas, sara = sign_in("dora"), sign_in("tomas"), sign_in("sara")
    assert re.findall(r'href="/commands/(\d+)/"', text(dora.get("/commands/"))) == [str(mine.pk)]
    assert dora.get(f"/commands/{whole.pk}/").status_code == 404
    assert tomas.get(path).status_code == tomas.post(f"{path}halt/", {"reason": "x"}).status_code == 404
    assert "Halt" in text(dora.get(path))
    viewer = text(sara.get(path))
    assert REASON not in viewer
    assert "an odd figure" in viewer
    assert 'form="acts"' not in viewer
    assert sara.post(f"{path}halt/", {"reason": "x"}).status_code == 403
    assert sara.get("/commands/new/").status_code == 403
    assert "Give a command" not in text(sara.get("/commands/"))
    assert Command.objects.get(pk=mine.pk).state == "rolling-out"


def test_the_list_is_filtered_and_walked_by_key(sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.views.commands.PAGE_SIZE", 2)
    given = [give(unit=unit).pk for unit in ("pricing", "tax", "pricing")]
    given.append(give("report", "tax").pk)
    carla = sign_in("carla")
    numbers = r'<th scope="row"><a href="/commands/(\d+)/"'

    def listed(query: str) -> list[int]:
        return [int(pk) for pk in re.findall(numbers, text(carla.get(f"/commands/{query}")))]

    assert listed("") == given[:1:-1]
    following = re.search(r'rel="next" href="/commands/([^"]+)"', text(carla.get("/commands/")))
    assert following is not None
    assert listed(following[1].replace("&amp;", "&")) == given[1::-1]
    assert listed("?unit=tax") == [given[3], given[1]]
    assert listed("?unit=tax&verb=report") == [given[3]]
    assert listed("?state=halted") == []
    for nonsense in ("?unit=%00", "?verb=x", "?state=x", "?after=x", "?before=-1"):
        assert carla.get(f"/commands/{nonsense}").status_code == 200


def test_the_counts_are_those_of_what_hosts_say(sign_in: SignIn) -> None:
    command = give(unit="pricing")
    keys = sorted(states(command))
    obey(keys[0])
    refuse(keys[1], "worker v9 is unknown here")
    Target.objects.filter(division__key=keys[2]).update(due_at=timezone.now() - timedelta(seconds=1))
    dora = sign_in("dora")
    page = text(dora.get(f"/commands/{command.pk}/"))
    assert f"1 of {len(keys)} divisions have obeyed." in page
    assert "2 divisions did not (40.0 % of those begun)." in page
    assert "worker v9 is unknown here" in page
    row = re.search(r"<tbody>.*?</tbody>", text(dora.get("/commands/")), re.S)
    assert row is not None
    counts = dict(re.findall(r'<td class="num" data-label="([^"]+)">(\d+)', row[0]))
    assert (counts["Obeyed"], counts["Refused"], counts["Not in time"], counts["Waiting"]) == ("1", "1", "1", "0")
    refused = text(dora.get(f"/commands/{command.pk}/?state=refused"))
    assert f'<span class="code">{keys[1]}</span>' in refused
    assert f'<span class="code">{keys[0]}</span>' not in refused
    assert "No division is in this state." in text(dora.get(f"/commands/{command.pk}/?state=waiting"))


# --- intervening -------------------------------------------------------------------------------------------


def test_a_roll_out_is_halted_continued_and_aborted_for_a_reason(sign_in: SignIn) -> None:
    command = give(unit="pricing", percent=20)
    path = f"/commands/{command.pk}/"
    dora = sign_in("dora")
    empty = dora.post(f"{path}halt/", {"reason": " "})
    assert empty.status_code == 422
    assert "Say why: the ledger keeps it." in text(empty)
    assert dora.post(f"{path}halt/", {"reason": "odd"}).headers["Location"] == path
    page = text(dora.get(path))
    assert "The command is halted." in page
    assert "continue/" in page
    assert "1 command is halted and waits for a person." in text(dora.get("/commands/"))
    again = dora.post(f"{path}halt/", {"reason": "so odd"})
    assert again.status_code == 422
    assert "Only a command that is rolling out can be halted." in text(again)
    assert 'value="so odd"' in text(again)
    assert dora.post(f"{path}continue/", {"reason": "looked at"}).status_code == 302
    assert dora.post(f"{path}abort/", {"reason": "enough"}).status_code == 302
    page = text(dora.get(path))
    assert "aborted" in page
    assert 'form="acts"' not in page
    assert "not sent" in page
    assert Command.objects.get(pk=command.pk).state == "aborted"


def test_the_live_part_is_the_same_while_nothing_changes(sign_in: SignIn) -> None:
    path = f"/commands/{give(unit='pricing', percent=20).pk}/"
    dora = sign_in("dora")
    part = dora.get(path, headers={"HX-Request": "true"})
    assert 'formaction="' in text(part)
    assert "csrf" not in text(part)
    again = dora.get(path, headers={"HX-Request": "true", "If-None-Match": part.headers["ETag"]})
    assert again.status_code == 304


def test_the_live_stream_tells_of_each_step_to_those_who_see_the_unit() -> None:
    def facts() -> tuple[str, str]:
        found = versions.versions(timezone.now())
        return found["unit:pricing"].partition(".")[0], found["unit:tax"].partition(".")[0]

    seen = [facts()]
    command = give(unit="pricing", percent=60)
    seen.append(facts())
    obey(next(key for key, state in states(command).items() if state == "sent"))
    seen.append(facts())
    services.issue(order=services.lifting(command, reason="x", key="k"), actor="ana")
    seen.append(facts())
    assert len({pricing for pricing, _tax in seen}) == 4
    assert len({tax for _pricing, tax in seen}) == 1


# --- the switch --------------------------------------------------------------------------------------------


def test_the_unit_says_that_it_is_paused_by_whom_and_why(sign_in: SignIn) -> None:
    dora, sara = sign_in("dora"), sign_in("sara")
    page = text(dora.get("/s/pricing/"))
    assert 'href="/commands/new/?verb=pause&amp;unit=pricing"' in page
    assert "Resume all" not in page
    assert "Pause agents" not in text(sara.get("/s/pricing/"))
    command = give(unit="pricing", reason=REASON)
    page = text(dora.get("/s/pricing/"))
    assert "The whole unit is paused." in page
    assert REASON in page
    assert '<span class="code">ana</span>' in page
    assert f'href="/commands/{command.pk}/"' in page
    assert f'href="/commands/new/?verb=resume&amp;lifts={command.pk}"' in page
    assert 'href="/commands/new/?verb=resume&amp;unit=pricing"' in page
    viewer = text(sara.get("/s/pricing/"))
    assert REASON in viewer
    assert "Resume all" not in viewer
    assert "is paused" not in text(sara.get("/s/tax/"))
    give("resume", "pricing")
    assert "is paused" not in text(dora.get("/s/pricing/"))


def test_a_pause_of_a_part_is_no_pause_of_the_whole(sign_in: SignIn) -> None:
    for fields in ({"role": "operator"}, {"division": "pricing.1"}, {"seat": "op-0031"}):
        unit = "" if "division" in fields else "pricing"
        give(unit=unit, **fields)
    page = text(sign_in("dora").get("/s/pricing/"))
    assert page.count("A part of the unit is paused.") == 3
    assert "The whole unit is paused." not in page
    assert "All agents are paused." not in text(sign_in("carla").get("/"))
    assert "Agents of 1 unit are paused." in text(sign_in("carla").get("/"))


def test_a_pause_of_everybody_is_said_everywhere_and_lifted_by_who_may(sign_in: SignIn) -> None:
    command = give(reason="the market is closed")
    carla, dora = sign_in("carla"), sign_in("dora")
    page = text(carla.get("/"))
    assert "All agents are paused." in page
    assert "the market is closed" in page
    assert f"verb=resume&amp;lifts={command.pk}" in page
    own = text(dora.get("/s/pricing/"))
    assert "The whole unit is paused." in own
    assert f"Command {command.pk}" in own
    assert f'href="/commands/{command.pk}/"' not in own
    assert "lifts=" not in own
    refused = post(dora, fill(dora, verb="resume"))
    assert refused.status_code == 422
    assert "which is about more" in text(refused)
    confirmed(carla)
    preview = post(carla, fill(carla, verb="resume", unit="", lifts=str(command.pk)))
    assert f"#{command.pk}" in text(preview)
    assert post(carla, fill(carla, verb="resume", unit="", lifts=str(command.pk)), confirm="1").status_code == 302
    assert Suspension.objects.count() == 0
    assert "is paused" not in text(dora.get("/s/pricing/"))


def test_only_a_pause_that_covers_every_unit_is_one_of_all() -> None:
    give(unit="pricing")
    give(reason="all")
    everybody, one = pauses_of(with_pauses(Unit.objects.order_by("position")))
    assert (everybody.whole, everybody.units) == (True, Unit.objects.count())
    assert (one.whole, one.units) == (False, 1)
