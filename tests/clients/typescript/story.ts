// The story that each generated client plays against a running server: story.js URL KEY.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

import createClient from "openapi-fetch";

import type { components, paths } from "./nights-watch.js";

type ErrorAnswer = components["schemas"]["ErrorAnswer"];
type ListAnswer = components["schemas"]["ListAnswer"];

interface Result<T> {
  data?: T;
  error?: ErrorAnswer;
  response: Response;
}

const [url, key] = process.argv.slice(2);
assert(url && key, "usage: story.js URL KEY");

const baseUrl = url;
const watch = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });

/** What was asked for, and not a refusal. */
function ok<T extends { status: "ok" }>({ data, error, response }: Result<T>): T {
  assert(data, `${response.status}: ${error?.error}`);
  assert.equal(data.status, "ok");
  return data;
}

/** Checks that the server refused with a typed answer. */
function refused({ error, response }: Result<unknown>, status: number, words: string): void {
  assert.equal(response.status, status);
  assert(error);
  assert.equal(error.status satisfies "error", "error");
  assert(error.error.includes(words), error.error);
}

const names = ({ watchers }: ListAnswer) => watchers.map(({ name }) => name);

ok(await watch.GET("/healthz"));
ok(await watch.GET("/readyz"));

// Create.
const { watcher } = ok(
  await watch.GET("/nights-watch/v1/watcher/create", {
    params: {
      query: {
        name: "My First Watcher",
        periodicity: 3600,
        description: "The nightly dump of db1",
        email: ["ops@example.com", "ann@example.com"],
      },
    },
  }),
);
const { id, slug, name } = watcher;
assert.equal(name, "My First Watcher");
assert.equal(slug, "my-first-watcher");
assert.equal(watcher.description, "The nightly dump of db1");
assert.equal(watcher.periodicity, 3600);
assert.deepEqual(watcher.emails, ["ops@example.com", "ann@example.com"]);
assert.equal(watcher.late, false);
assert.equal(watcher.paused, false);
assert.equal(watcher.history.length, 1);
const [event] = watcher.history;
assert(event?.[0] && watcher.deadline);
const [at, what] = event;
assert.equal(what, "Watcher created");
assert.equal(Date.parse(watcher.deadline) - Date.parse(at), 3_600_000);
const { watcher: asleep } = ok(
  await watch.GET("/nights-watch/v1/watcher/create", {
    params: { query: { name: "Asleep", periodicity: 60, paused: true } },
  }),
);
assert(asleep.paused && !("deadline" in asleep));
ok(
  await watch.GET("/nights-watch/v1/watcher/create", {
    params: { query: { name: "Restless", periodicity: 0.001 } },
  }),
);

// List with filters.
type Filter = NonNullable<paths["/nights-watch/v1/watcher/list"]["get"]["parameters"]["query"]>;
const list = async (query: Filter = {}) =>
  ok(await watch.GET("/nights-watch/v1/watcher/list", { params: { query } }));
const patience = Date.now() + 60_000;
while (names(await list({ late: true })).join() !== "Restless") {
  assert(Date.now() < patience, "it should become late");
  await sleep(10);
}
const all = await list();
assert.deepEqual(names(all), ["Asleep", "My First Watcher", "Restless"]);
assert.equal(all.watchers[1]?.id, id);
assert.equal(all.watchers[1]?.slug, undefined);
assert.deepEqual(names(await list({ paused: true })), ["Asleep"]);
assert.deepEqual(names(await list({ late: false, paused: false })), ["My First Watcher"]);
const found = await list({ search: "^my-", verbose: true });
assert.deepEqual(names(found), ["My First Watcher"]);
assert.deepEqual(found.watchers[0]?.history, watcher.history);

// Trigger.
const trigger = "/nights-watch/v1/watcher/trigger";
const byId = ok(
  await watch.GET(trigger, { params: { query: { id, comment: "long form trigger url" } } }),
);
assert.deepEqual([byId.recovered, byId.unpaused], [false, false]);
ok(await watch.GET(trigger, { params: { query: { slug, m: "by slug" } } }));
ok(await watch.POST(trigger, { params: { query: { name } } }));
ok(
  await watch.GET("/{id}", {
    params: { path: { id }, query: { comment: "short form trigger url" } },
  }),
);
ok(await watch.POST("/{id}", { params: { path: { id } } }));
const restless = ok(await watch.GET(trigger, { params: { query: { name: "Restless" } } }));
assert.equal(restless.recovered, true);
const woken = ok(await watch.GET(trigger, { params: { query: { id: asleep.id } } }));
assert.equal(woken.unpaused, true);

// Pause and unpause.
const pause = "/nights-watch/v1/watcher/pause";
const paused = ok(await watch.GET(pause, { params: { query: { slug, comment: "holiday" } } }));
assert(paused.watcher.paused && !("deadline" in paused.watcher));
refused(await watch.GET(pause, { params: { query: { id } } }), 409, "paused");
const unpause = "/nights-watch/v1/watcher/unpause";
const unpaused = ok(await watch.GET(unpause, { params: { query: { name } } }));
assert(!unpaused.watcher.paused && unpaused.watcher.deadline);
refused(await watch.GET(unpause, { params: { query: { id } } }), 409, "not paused");

// Update.
const update = "/nights-watch/v1/watcher/update";
const email = ["a@example.com", "b@example.com", "c@example.com"];
const { watcher: updated } = ok(
  await watch.GET(update, {
    params: {
      query: { id, name: "My Second Watcher", periodicity: 90.5, description: "", email },
    },
  }),
);
assert.equal(updated.slug, "my-second-watcher");
assert.equal(updated.periodicity, 90.5);
assert.equal(updated.description, "");
assert.deepEqual(updated.emails, email);
const cleared = ok(
  await watch.GET(update, { params: { query: { slug: updated.slug, email: ["-"] } } }),
);
assert.deepEqual(cleared.watcher.emails, []);
refused(await watch.GET(update, { params: { query: { id } } }), 400, "update");

// Get with history.
const get = "/nights-watch/v1/watcher/get";
const { watcher: full } = ok(await watch.GET(get, { params: { query: { id } } }));
assert.deepEqual(
  full.history.map(([, what]) => what),
  [
    "Unpaused",
    "Paused (holiday)",
    "Triggered",
    "Triggered (short form trigger url)",
    "Triggered",
    "Triggered (by slug)",
    "Triggered (long form trigger url)",
    "Watcher created",
  ],
);

// Errors.
refused(await watch.GET(get, { params: { query: { id, name: "Asleep" } } }), 400, "only one");
const wrongSearch = await watch.GET("/nights-watch/v1/watcher/list", {
  params: { query: { search: "(" } },
});
refused(wrongSearch, 400, "search");
// The types know that a parameter is required.
// @ts-expect-error
refused(await watch.GET("/nights-watch/v1/watcher/create"), 400, "name");
const taken = await watch.GET("/nights-watch/v1/watcher/create", {
  params: { query: { name: "asleep", periodicity: 60 } },
});
refused(taken, 409, "taken");
const unknown = await watch.GET("/{id}", { params: { path: { id: "aaaaaaaa" } } });
refused(unknown, 404, "no such watcher");
// As many characters as there may be, but each of them is nine bytes of a URL.
const long = await watch.GET(update, { params: { query: { id, description: "€".repeat(4000) } } });
refused(long, 414, "path and query");
const prefetching = createClient<paths>({ baseUrl, headers: { Purpose: "prefetch" } });
refused(await prefetching.GET("/{id}", { params: { path: { id } } }), 403, "prefetches");
const wordy = createClient<paths>({ baseUrl, headers: { "X-Long": "x".repeat(16 * 1024) } });
refused(await wordy.GET("/healthz"), 431, "headers");

// Authentication.
const anonymous = createClient<paths>({ baseUrl });
refused(await anonymous.GET("/nights-watch/v1/watcher/list"), 401, "auth_key");
const stranger = createClient<paths>({ baseUrl, headers: { Authorization: "Bearer wrong" } });
refused(await stranger.GET("/nights-watch/v1/watcher/list"), 401, "auth_key");
const byQuery = createClient<paths>({ baseUrl });
byQuery.use({
  onRequest({ request }) {
    const url = new URL(request.url);
    url.searchParams.set("auth_key", key);
    return new Request(url, request);
  },
});
const second = await byQuery.GET("/nights-watch/v1/watcher/list", {
  params: { query: { search: "second" } },
});
assert.deepEqual(names(ok(second)), ["My Second Watcher"]);
ok(await anonymous.GET(trigger, { params: { query: { id } } }));

// Delete.
const remove = "/nights-watch/v1/watcher/delete";
ok(await watch.GET(remove, { params: { query: { slug: "my-second-watcher" } } }));
refused(await watch.GET(get, { params: { query: { id } } }), 404, "no such watcher");

// Guessing. It is the end: from then on this address has to wait before it names anything new.
const guess = (n: number) =>
  anonymous.GET(trigger, { params: { query: { name: `Nobody ${n}` } } });
const enough = Date.now() + 60_000;
let guessed = await guess(0);
for (let n = 1; guessed.response.status === 404; n++) {
  assert(Date.now() < enough, "it should have to wait");
  guessed = await guess(n);
}
refused(guessed, 429, "too many");
assert(Number(guessed.response.headers.get("retry-after")) > 0);
