"use strict";
// The portal's own script: theme, search palette, and the live stream. Works on real links and forms; without it
// every page still reads and navigates.
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const body = document.body;

  // --- theme: the form posts it; here it changes at once and is remembered without a round trip -------------
  const themes = $("[data-themes]");
  themes?.addEventListener("submit", (event) => {
    const theme = event.submitter?.value;
    if (!theme) return;
    event.preventDefault();
    const root = document.documentElement;
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `theme=${theme}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
    for (const button of themes.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.value === theme));
    }
    document.dispatchEvent(new Event("portal:theme"));
  });

  // --- filters: a choice is applied at once; words when Enter is pressed ------------------------------------
  $("[data-filters]")?.addEventListener("change", (event) => {
    if (event.target.matches("select")) event.currentTarget.requestSubmit();
  });
  $("[data-filters]")?.addEventListener("submit", (event) => {
    for (const field of event.currentTarget.elements) if (!field.value) field.disabled = true; // short addresses
    setTimeout(() => { for (const field of event.target.elements) field.disabled = false; });
  });

  // --- search palette -----------------------------------------------------------------------------------------
  const palette = $("#palette");
  if (palette) {
    const words = $("#palette-words");
    const list = $("#palette-hits");
    let hits = [], chosen = 0, asked = 0, waiting = 0;

    const draw = () => {
      list.replaceChildren(...hits.map((hit, place) => {
        const item = document.createElement("li");
        item.id = `palette-hit-${place}`;
        item.setAttribute("role", "option");
        item.setAttribute("aria-selected", String(place === chosen));
        const name = document.createElement("span");
        name.textContent = hit.name;
        const kind = document.createElement("span");
        kind.className = "kind";
        kind.textContent = hit.kind;
        item.append(name, kind);
        item.addEventListener("click", () => { location.href = hit.url; });
        return item;
      }));
      if (!hits.length) {
        const none = document.createElement("li");
        none.setAttribute("role", "option");
        none.setAttribute("aria-disabled", "true");
        none.textContent = list.dataset.empty;
        list.append(none);
      }
      if (hits.length) words.setAttribute("aria-activedescendant", `palette-hit-${chosen}`);
      else words.removeAttribute("aria-activedescendant");
      $("[aria-selected=true]", list)?.scrollIntoView({ block: "nearest" });
    };
    const ask = async () => {
      const mine = ++asked;
      try {
        const answer = await fetch(`${body.dataset.palette}?q=${encodeURIComponent(words.value)}`);
        if (mine !== asked || !answer.ok) return;
        hits = (await answer.json()).hits;
        chosen = 0;
        draw();
      } catch { /* the notice of an unreachable portal is the live part's business */ }
    };
    const open = () => {
      if (palette.open) return;
      words.value = "";
      palette.showModal();
      ask();
    };
    words.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(ask, 120); });
    words.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step && hits.length) {
        chosen = (chosen + step + hits.length) % hits.length;
        draw();
      } else if (event.key === "Enter" && hits[chosen]) {
        location.href = hits[chosen].url;
      } else return;
      event.preventDefault();
    });
    palette.addEventListener("click", (event) => { if (event.target === palette) palette.close(); });
    $("[data-open-palette]")?.addEventListener("click", open);
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
      const search = (event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k";
      if (search || (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey)) {
        event.preventDefault();
        open();
      }
    });
  }

  // --- live: a signal names what changed, then each part is asked for again --------------------------------------
  const parts = [...document.querySelectorAll("[data-topics]")];
  const pause = $("[data-pause]");
  if (!parts.length || !body.dataset.live) return;

  const JITTER_MS = 800, POLL_MS = 30000, SILENCE_MS = 40000, EARLIEST_MS = 1500, FRESH_MS = 3000;
  const known = new Map();      // topic -> version last acted upon
  const due = new Map();        // part -> timer
  const last = new WeakMap();   // part -> time of its last request
  let paused = sessionStorage.getItem("paused") === "1";
  let missed = false;           // something changed while paused or hidden

  const refresh = (part) => {
    if (due.has(part)) return;
    const rest = EARLIEST_MS - (performance.now() - (last.get(part) ?? -EARLIEST_MS));
    due.set(part, setTimeout(() => {
      due.delete(part);
      if (idle()) { missed = true; return; }
      last.set(part, performance.now());
      htmx.trigger(part, "live");
    }, Math.max(rest, 0) + Math.random() * JITTER_MS));
  };
  const refreshAll = () => parts.forEach(refresh);
  const idle = () => paused || document.hidden || $("dialog[open]") !== null;

  const changed = (versions, first) => {
    const topics = Object.keys(versions).filter((topic) => known.get(topic) !== versions[topic]);
    for (const topic of topics) known.set(topic, versions[topic]);
    // The state at connection is news only to a page that was drawn a while ago.
    const late = first && performance.now() > FRESH_MS;
    if (first && !late) return;
    for (const part of parts) {
      if (late || part.dataset.topics.split(" ").some((topic) => topics.includes(topic))) refresh(part);
    }
  };

  document.addEventListener("htmx:beforeSwap", (event) => {
    const { target, xhr } = event.detail;
    if (!target.dataset?.topics) return;
    const etag = xhr.getResponseHeader("ETag");
    if (etag && etag === target.dataset.etag) event.detail.shouldSwap = false;
    target.dataset.etag = etag ?? "";
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    const { xhr, successful, target } = event.detail;
    if (!target?.dataset?.topics) return;
    $("[data-stale]").hidden = successful || xhr.status === 401;
    target.classList.toggle("stale", !successful);
    const stamp = xhr.getResponseHeader?.("As-Of");
    const time = $("[data-as-of] time");
    if (successful && stamp && time) {
      const text = `${new Date(stamp).toISOString().slice(0, 19).replace("T", " ")} UTC`;
      Object.assign(time, { dateTime: stamp, title: text, textContent: text });
    }
  });

  // One tab of all holds the connection (Web Locks), and tells the others (BroadcastChannel).
  const channel = "BroadcastChannel" in window ? new BroadcastChannel("portal-live") : null;
  let source = null, polling = 0, release = null, heard = performance.now(), retry = 1000;

  const poll = (on) => {
    if (on && !polling) polling = setInterval(refreshAll, POLL_MS);
    if (!on && polling) { clearInterval(polling); polling = 0; }
  };
  const receive = (message) => {
    heard = performance.now();
    poll(false);
    if (message.versions) changed(message.versions, message.first);
  };
  const connect = () => {
    source = new EventSource(body.dataset.live, { withCredentials: true });
    const tell = (first) => (event) => {
      retry = 1000;
      const message = { versions: JSON.parse(event.data), first };
      receive(message);
      channel?.postMessage(message);
    };
    source.addEventListener("state", tell(true));
    source.addEventListener("change", tell(false));
    source.addEventListener("beat", () => { receive({}); channel?.postMessage({}); });
    source.addEventListener("end", () => { source.close(); source = null; location.reload(); }); // session is over
    source.onerror = () => {
      poll(true);
      if (source?.readyState !== EventSource.CLOSED) return;     // the browser tries again by itself
      source = null;
      retry = Math.min(retry * 2, 60000);
      setTimeout(() => { if (!source && release) connect(); }, retry);
    };
  };
  const lead = () => {
    if (release) return;
    if (!navigator.locks || !channel) {                          // no secure context: this tab for itself
      release = () => {};
      connect();
      return;
    }
    const abort = new AbortController();
    release = () => abort.abort();
    navigator.locks.request("portal-live", { signal: abort.signal }, () => new Promise((done) => {
      release = done;
      connect();
    })).catch(() => {});
  };
  const leave = () => {
    source?.close();
    source = null;
    release?.();
    release = null;
    poll(false);
  };
  channel?.addEventListener("message", (event) => receive(event.data));
  setInterval(() => { if (release && performance.now() - heard > SILENCE_MS) poll(true); }, 5000);

  // A tab that nobody sees asks for nothing; when seen again it asks once.
  const settle = () => {
    if (document.hidden || paused) leave();
    else {
      heard = performance.now();
      lead();
      if (missed) { missed = false; refreshAll(); }
    }
  };
  document.addEventListener("visibilitychange", () => { missed = true; settle(); });
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", (event) => { if (event.persisted) { missed = true; settle(); } });
  if (pause) {
    const show = () => {
      pause.hidden = false;
      pause.setAttribute("aria-pressed", String(paused));
      pause.textContent = paused ? pause.dataset.off : pause.dataset.on;
    };
    pause.addEventListener("click", () => {
      paused = !paused;
      sessionStorage.setItem("paused", paused ? "1" : "0");
      missed = true;
      show();
      settle();
    });
    show();
  }
  palette?.addEventListener("close", () => { if (missed) { missed = false; refreshAll(); } });
  settle();
})();
