"""The story that each generated client plays against a running server: story.py URL KEY."""

import itertools
import sys
import time
from datetime import datetime, timedelta
from typing import TypeVar

from nights_watch_client import AuthenticatedClient, Client
from nights_watch_client.api.changes import (
    create_watcher,
    delete_watcher,
    pause_watcher,
    unpause_watcher,
    update_watcher,
)
from nights_watch_client.api.operation import is_alive, is_ready
from nights_watch_client.api.queries import get_watcher, list_watchers
from nights_watch_client.api.triggers import (
    post_trigger_by_id,
    post_trigger_watcher,
    trigger_by_id,
    trigger_watcher,
)
from nights_watch_client.models import (
    DoneAnswer,
    ErrorAnswer,
    ErrorStatus,
    ListAnswer,
    Status,
)
from nights_watch_client.types import UNSET, Response

T = TypeVar("T")


def ok(answer: T | ErrorAnswer | None) -> T:
    """What was asked for, and not a refusal."""
    assert answer is not None and not isinstance(answer, ErrorAnswer), answer
    return answer


def check_refused(response: Response[T | ErrorAnswer], status: int, words: str) -> None:
    """Checks that the server refused with a typed answer."""
    assert response.status_code == status, response
    answer = response.parsed
    assert isinstance(answer, ErrorAnswer), response
    assert answer.status is ErrorStatus.ERROR
    assert words in answer.error, answer


def names(answer: ListAnswer) -> list[str]:
    return [watcher.name for watcher in answer.watchers]


def main(url: str, key: str) -> None:
    client = AuthenticatedClient(base_url=url, token=key)

    done = ok(is_alive.sync(client=client))
    assert isinstance(done, DoneAnswer) and done.status is Status.OK
    ok(is_ready.sync(client=client))

    # Create.
    created = ok(
        create_watcher.sync(
            client=client,
            name="My First Watcher",
            periodicity=3600,
            description="The nightly dump of db1",
            email=["ops@example.com", "ann@example.com"],
        )
    )
    watcher = created.watcher
    assert created.status is Status.OK
    assert watcher.name == "My First Watcher"
    assert watcher.slug == "my-first-watcher"
    assert watcher.description == "The nightly dump of db1"
    assert watcher.periodicity == 3600
    assert watcher.emails == ["ops@example.com", "ann@example.com"]
    assert watcher.late is False and watcher.paused is False
    [[at, what]] = watcher.history
    assert what == "Watcher created"
    assert watcher.deadline == datetime.fromisoformat(at) + timedelta(hours=1)
    asleep = ok(
        create_watcher.sync(client=client, name="Asleep", periodicity=60, paused=True)
    ).watcher
    assert asleep.paused and asleep.deadline is UNSET
    ok(create_watcher.sync(client=client, name="Restless", periodicity=0.001))

    # List with filters.
    patience = time.monotonic() + 60
    while names(ok(list_watchers.sync(client=client, late=True))) != ["Restless"]:
        assert time.monotonic() < patience, "it should become late"
        time.sleep(0.01)
    everything = ok(list_watchers.sync(client=client))
    assert names(everything) == ["Asleep", "My First Watcher", "Restless"]
    assert everything.watchers[1].id == watcher.id
    assert everything.watchers[1].slug is UNSET
    assert names(ok(list_watchers.sync(client=client, paused=True))) == ["Asleep"]
    timely = ok(list_watchers.sync(client=client, late=False, paused=False))
    assert names(timely) == ["My First Watcher"]
    found = ok(list_watchers.sync(client=client, search="^my-", verbose=True))
    assert names(found) == ["My First Watcher"]
    assert found.watchers[0].history == watcher.history

    # Trigger.
    comment = "long form trigger url"
    by_id = ok(trigger_watcher.sync(client=client, id=watcher.id, comment=comment))
    assert by_id.recovered is False and by_id.unpaused is False
    ok(trigger_watcher.sync(client=client, slug=watcher.slug, m="by slug"))
    ok(post_trigger_watcher.sync(client=client, name=watcher.name))
    comment = "short form trigger url"
    ok(trigger_by_id.sync(watcher.id, client=client, comment=comment))
    ok(post_trigger_by_id.sync(watcher.id, client=client))
    assert ok(trigger_watcher.sync(client=client, name="Restless")).recovered
    assert ok(trigger_watcher.sync(client=client, id=asleep.id)).unpaused

    # Pause and unpause.
    slug = "my-first-watcher"
    paused = ok(pause_watcher.sync(client=client, slug=slug, comment="holiday")).watcher
    assert paused.paused and paused.deadline is UNSET
    again = pause_watcher.sync_detailed(client=client, id=watcher.id)
    check_refused(again, 409, "paused")
    unpaused = ok(unpause_watcher.sync(client=client, name="My First Watcher")).watcher
    assert not unpaused.paused and unpaused.deadline
    again = unpause_watcher.sync_detailed(client=client, id=watcher.id)
    check_refused(again, 409, "not paused")

    # Update.
    three = ["a@example.com", "b@example.com", "c@example.com"]
    updated = ok(
        update_watcher.sync(
            client=client,
            id=watcher.id,
            name="My Second Watcher",
            periodicity=90.5,
            description="",
            email=three,
        )
    ).watcher
    assert updated.slug == "my-second-watcher"
    assert updated.periodicity == 90.5
    assert updated.description == ""
    assert updated.emails == three
    cleared = update_watcher.sync(client=client, slug=updated.slug, email=["-"])
    assert ok(cleared).watcher.emails == []
    nothing = update_watcher.sync_detailed(client=client, id=watcher.id)
    check_refused(nothing, 400, "update")

    # Get with history.
    history = ok(get_watcher.sync(client=client, id=watcher.id)).watcher.history
    assert [what for [_, what] in history] == [
        "Unpaused",
        "Paused (holiday)",
        "Triggered",
        "Triggered (short form trigger url)",
        "Triggered",
        "Triggered (by slug)",
        "Triggered (long form trigger url)",
        "Watcher created",
    ]

    # Errors.
    both = get_watcher.sync_detailed(client=client, id=watcher.id, name="Asleep")
    check_refused(both, 400, "only one")
    wrong = list_watchers.sync_detailed(client=client, search="(")
    check_refused(wrong, 400, "search")
    taken = create_watcher.sync_detailed(client=client, name="asleep", periodicity=60)
    check_refused(taken, 409, "taken")
    unknown = trigger_by_id.sync_detailed("aaaaaaaa", client=client)
    check_refused(unknown, 404, "no such watcher")
    # As many characters as there may be, but each of them is nine bytes of a URL.
    text = "€" * 4000
    long = update_watcher.sync_detailed(client=client, id=watcher.id, description=text)
    check_refused(long, 414, "path and query")
    prefetching = Client(base_url=url, headers={"Purpose": "prefetch"})
    prefetch = trigger_by_id.sync_detailed(watcher.id, client=prefetching)
    check_refused(prefetch, 403, "prefetches")
    wordy = Client(base_url=url, headers={"X-Long": "x" * 16 * 1024})
    check_refused(is_alive.sync_detailed(client=wordy), 431, "headers")

    # Authentication.
    stranger = AuthenticatedClient(base_url=url, token="wrong")
    check_refused(list_watchers.sync_detailed(client=stranger), 401, "auth_key")
    by_query = AuthenticatedClient(
        base_url=url, token="wrong", httpx_args={"params": {"auth_key": key}}
    )
    found = ok(list_watchers.sync(client=by_query, search="second"))
    assert names(found) == ["My Second Watcher"]
    ok(trigger_watcher.sync(client=Client(base_url=url), id=watcher.id))

    # Delete.
    ok(delete_watcher.sync(client=client, slug="my-second-watcher"))
    gone = get_watcher.sync_detailed(client=client, id=watcher.id)
    check_refused(gone, 404, "no such watcher")

    # Guessing. It is the end: from then on this address has to wait before it names
    # anything new.
    patience = time.monotonic() + 60
    for n in itertools.count():
        guess = trigger_watcher.sync_detailed(client=client, name=f"Nobody {n}")
        if guess.status_code != 404:
            break
        assert time.monotonic() < patience, "it should have to wait"
    check_refused(guess, 429, "too many")
    assert int(guess.headers["retry-after"]) > 0


main(sys.argv[1], sys.argv[2])
