// What happens while somebody looks. Everything else works without this file.
"use strict";

(() => {
  const feed = document.getElementById("feed");
  if (!feed) return;

  const MOST = 30;
  const ASK_AGAIN = 3000; // milliseconds

  const template = document.getElementById("feed-event");
  const state = document.getElementById("feed-state");
  const pause = document.getElementById("feed-pause");
  const empty = document.getElementById("feed-empty");
  const stale = document.getElementById("stale");

  let source = null;
  let timer = null;
  let paused = false;
  let turn = 0; // an answer that comes after its turn counts for nothing

  const lastSeen = () => feed.firstElementChild?.dataset.id ?? "";

  function say(name, words) {
    if (state.dataset.state === name) return; // a status that changes is read aloud
    state.dataset.state = name;
    state.textContent = words;
  }

  function piece(word) {
    if (!word.href && !word.is_name) return document.createTextNode(word.text);
    const name = document.createElement("bdi");
    name.textContent = word.text;
    if (!word.href) {
      name.className = "name";
      return name;
    }
    const link = document.createElement("a");
    link.href = word.href;
    link.append(name);
    return link;
  }

  function show(event) {
    if (feed.querySelector(`[data-id="${CSS.escape(event.id)}"]`)) return;
    const item = template.content.firstElementChild.cloneNode(true);
    item.dataset.id = event.id;
    item.classList.add("new");
    const mark = item.querySelector(".mark");
    mark.className = `mark mark-${event.kind}`;
    mark.textContent = event.label;
    const time = item.querySelector("time");
    time.dateTime = event.time;
    time.textContent = event.time.slice(0, 19).replace("T", " ");
    item.querySelector(".event-words").replaceChildren(...event.words.map(piece));
    feed.prepend(item);
    while (feed.children.length > MOST) feed.lastElementChild.remove();
    empty.hidden = true;
    stale.hidden = false;
  }

  function address(where) {
    return `${where}?after=${encodeURIComponent(lastSeen())}`;
  }

  // Ask what was missed, then go on with a stream if there is room for one, or else ask again and again.
  async function follow() {
    halt();
    if (paused || document.hidden) return;
    const mine = turn;
    try {
      const answer = await fetch(address(feed.dataset.poll), { headers: { Accept: "application/json" } });
      if (mine !== turn) return;
      if (answer.status === 401) {
        say("off", "signed out");
        return;
      }
      if (!answer.ok) throw new Error(String(answer.status));
      const news = await answer.json();
      if (mine !== turn) return;
      for (const event of news.events) show(event);
      if (news.has_stream) {
        listen();
        return;
      }
      say("asking", "every 3 s");
    } catch {
      if (mine !== turn) return;
      say("off", "trying again");
    }
    timer = setTimeout(follow, ASK_AGAIN);
  }

  function listen() {
    source = new EventSource(address(feed.dataset.stream));
    source.onopen = () => say("live", "live");
    source.addEventListener("happened", (message) => show(JSON.parse(message.data)));
    source.onerror = () => { // it has ended, as each does after a while, or somebody else was faster
      halt();
      timer = setTimeout(follow, ASK_AGAIN);
    };
  }

  function halt() {
    turn += 1;
    source?.close();
    source = null;
    clearTimeout(timer);
  }

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    if (paused) {
      halt();
      say("paused", "paused");
    } else {
      follow();
    }
  });
  document.addEventListener("visibilitychange", follow); // nobody looks: let others have the stream
  addEventListener("pagehide", halt);
  addEventListener("pageshow", (event) => event.persisted && follow());

  pause.hidden = false;
  follow();
})();
