// Refines pages that are whole without it: times in the visitor's zone, counted on; changes as they happen;
// buttons that copy.
"use strict";

(() => {
  const live = () => document.getElementById("live");

  // What the clock here is wrong by, against that of the service, which tells the time whenever it draws.
  let offset = 0;
  const setClock = () => {
    if (live()?.dataset.now) offset = Number(live().dataset.now) - Date.now();
  };
  const now = () => Date.now() + offset;

  const two = (number) => String(number).padStart(2, "0");

  const local = (at) =>
    `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ` +
    `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;

  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

  // The largest two units of a span of milliseconds.
  const span = (milliseconds) => {
    let rest = Math.floor(milliseconds / 1000);
    const first = units.findIndex(([, size]) => rest >= size);
    if (first < 0) return "0 s";
    const parts = [];
    for (const [unit, size] of units.slice(first, first + 2)) {
      const count = Math.floor(rest / size);
      if (count > 0) parts.push(`${count} ${unit}`);
      rest %= size;
    }
    return parts.join(" ");
  };

  const wordings = {
    clock: (at) => local(at),
    ago: (at) => (now() - at < 1000 ? "just now" : `${span(now() - at)} ago`),
    left: (at) => (at >= now() ? `in ${span(at - now())}` : `${span(now() - at)} overdue`),
  };

  const tellTime = (time) => {
    const at = new Date(time.dateTime);
    const words = wordings[time.dataset.wording](at);
    if (time.textContent !== words) time.textContent = words;
    if (time.dataset.is !== time.dateTime) {
      time.dataset.is = time.dateTime;
      const utc = `${at.toISOString().slice(0, 19).replace("T", " ")} UTC`;
      time.title = time.dataset.wording === "clock" ? utc : `${local(at)} here, ${utc}`;
    }
  };

  const tellTimes = () => document.querySelectorAll("time[data-wording]").forEach(tellTime);

  // Makes `old` look like `fresh`, touching only what differs: what has the focus or is selected stays so.
  const become = (old, fresh) => {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(fresh);
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    if (old.nodeName === "TIME" && old.dateTime === fresh.dateTime && old.dataset.wording === fresh.dataset.wording) return;
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of [...fresh.attributes]) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const wantedKeys = new Set([...fresh.children].map((child) => child.dataset?.key));
    const keyed = new Map();
    for (const child of [...old.children]) {
      const key = child.dataset?.key;
      if (key && !wantedKeys.has(key)) child.remove();
      else if (key) keyed.set(key, child);
    }
    // They leave `fresh` as they are put into `old`, so they are counted before.
    const all = [...fresh.childNodes];
    all.forEach((wanted, index) => {
      const same = keyed.get(wanted.dataset?.key);
      const here = old.childNodes[index];
      if (same && same !== here) old.insertBefore(same, here || null);
      const present = old.childNodes[index];
      if (present && (same || !present.dataset?.key || !wanted.dataset?.key)) become(present, wanted);
      else old.insertBefore(wanted, present || null);
    });
    while (old.childNodes.length > all.length) old.lastChild.remove();
  };

  const icon = document.getElementById("icon");
  const lost = document.getElementById("lost");

  const setIcon = (path) => {
    if (icon.getAttribute("href") !== path) icon.setAttribute("href", path);
  };

  const found = () => {
    lost.hidden = true;
    document.title = live().dataset.title;
    setIcon(live().dataset.icon);
  };

  const lose = () => {
    lost.hidden = false;
    document.title = `(?) ${live().dataset.title}`;
    setIcon(icon.dataset.lost);
  };

  const show = (markup) => {
    const page = new DOMParser().parseFromString(markup, "text/html");
    const focused = document.activeElement;
    for (const part of page.querySelectorAll(".part")) become(document.getElementById(part.id), part);
    // What is moved loses the focus.
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    setClock();
    tellTimes();
  };

  const follow = () => {
    // It is to be there when nothing else can be got any more.
    new Image().src = icon.dataset.lost;
    const period = 4000;
    const silence = 2 * period;
    let source;
    let heard = Date.now();
    const hear = () => {
      heard = Date.now();
      found();
    };
    const listen = () => {
      source = new EventSource(location.href);
      source.addEventListener("scene", (event) => {
        show(event.data);
        hear();
      });
      source.addEventListener("alive", hear);
      source.addEventListener("gone", () => location.reload());
    };
    // Asks for the page itself. If that leads elsewhere, or there is no such watcher any more, the page says so best.
    const look = async () => {
      const options = { redirect: "manual", signal: AbortSignal.timeout(period) };
      const answer = await fetch(location.href, options).catch(() => undefined);
      if (answer?.type === "opaqueredirect" || answer?.status === 404) location.reload();
      if (!answer?.ok) return;
      show(await answer.text());
      hear();
    };
    // A browser opens six connections to a host and no more, so a page that nobody sees does without, and asks.
    const attend = () => {
      source?.close();
      if (!document.hidden) listen();
    };
    attend();
    document.addEventListener("visibilitychange", () => {
      heard = Date.now();
      attend();
    });
    setInterval(async () => {
      // A connection can be gone without a word.
      const isSilent = Date.now() - heard > silence;
      if (isSilent || !source || source.readyState === EventSource.CLOSED) {
        await look();
        attend();
      }
      if (Date.now() - heard > silence) lose();
    }, period);
  };

  const copy = async (button) => {
    const code = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      // Without encryption browsers keep the clipboard from scripts, but not from selections.
      getSelection().selectAllChildren(code);
      if (!document.execCommand("copy")) return;
    }
    button.firstChild.textContent = "Copied";
    setTimeout(() => (button.firstChild.textContent = "Copy"), 2000);
  };

  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }

  const zone = document.getElementById("zone");
  if (zone) zone.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;

  // What was just done has been said; a reload is not to say it again.
  const here = new URL(location.href);
  if (here.searchParams.has("done")) {
    here.searchParams.delete("done");
    history.replaceState(null, "", here);
  }

  // A link on another site comes without the cookie, so who is signed in may be asked for the key nevertheless.
  if (document.querySelector(".gate")) {
    // By an address of its own, since the page may be the answer to a form.
    const to = document.querySelector("input[name=to]").value;
    const here = `/ui/sign-in?to=${encodeURIComponent(to)}`;
    fetch(here, { redirect: "manual" }).then((answer) => {
      if (answer.type === "opaqueredirect") location.replace(here);
    }, () => {});
  }

  setClock();
  tellTimes();
  setInterval(tellTimes, 1000);
  if (live() && "live" in document.body.dataset) follow();
})();
