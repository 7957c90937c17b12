// Keeps a page of the console up to date: it asks for the same page again, and carries what differs
// into the one on the screen, text by text, so that focus, selection and scroll positions stay.
// The page needs none of it: without this script it shows what was true when it was loaded.

const page = document.documentElement;
const body = document.body;
const words = body.dataset;
const EVERY = 2000; // ms between polls, at most
const LONGEST = 30_000; // ms between polls that fail, at most
const QUIET = 5000; // ms between announcements

let etag = null; // of what is on the screen
let heard = performance.now(); // when the server last answered
let epoch = 0; // the server's time at performance.now() = 0, in seconds
let failures = 0;
let timer = 0;
let over = false; // whether polling has ended for good: signed out

const clock = () => epoch + performance.now() / 1000;
const setClock = (now) => { epoch = Number(now) - performance.now() / 1000; };

// --- Times: durations that go on, moments in the browser's zone

function duration(seconds) {
  let left = Math.max(0, Math.floor(seconds));
  const sizes = [86_400, 3600, 60, 1];
  const units = words.units.split('|');
  const at = Math.max(0, sizes.findIndex((size) => left >= size));
  const first = left ? at : 3;
  const shown = [];
  for (let i = first; i < Math.min(first + 2, 4); i += 1) {
    const count = Math.floor(left / sizes[i]);
    left %= sizes[i];
    if (count || i === first) shown.push(units[i].replace('#', count));
  }
  return shown.join(' ');
}

const sameDay = { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' };
const otherDay = { ...sameDay, year: 'numeric', month: '2-digit', day: '2-digit' };

function moment(seconds) {
  const at = new Date(seconds * 1000);
  const today = new Date(clock() * 1000).toDateString() === at.toDateString();
  // Swedish writes dates as ISO 8601 does; the words of a language are not in them.
  return at.toLocaleString('sv', today ? sameDay : otherDay);
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function tick(root) {
  const now = clock();
  for (const each of root.querySelectorAll('[data-since]')) {
    write(each, duration(now - each.dataset.since));
  }
  for (const each of root.querySelectorAll('[data-until]')) {
    const left = each.dataset.until - now;
    const form = each.className === 'reverts_in' ? words.ends : words.in;
    write(each, left < 1 && form === words.in ? words.due : form.replace('#', duration(left)));
  }
}

// What the script adds to a page as the server sends it: local times, and the cells' labels.
function complete(root) {
  for (const each of root.querySelectorAll('[data-at]')) write(each, moment(each.dataset.at));
  for (const table of root.querySelectorAll('table')) {
    const labels = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
    table.setAttribute('role', 'table'); // as cards, some browsers take it for none
    for (const row of table.rows) {
      row.setAttribute('role', 'row');
      for (const cell of row.cells) {
        if (cell.tagName === 'TD') {
          cell.dataset.label = labels[cell.cellIndex];
          cell.setAttribute('role', 'cell');
        }
      }
    }
  }
  tick(root);
}

// --- Patching

// What a child is known by while others come and go: a row by the address of its circuit.
function key(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return node.nodeName;
  const name = node.localName === 'tr' && node.querySelector('th a')?.getAttribute('href');
  return name || `${node.localName}#${node.id}`;
}

function patchAttributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== 'open') old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

function patch(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.localName === 'form' || old.isEqualNode(fresh)) return; // what somebody types stays
  patchAttributes(old, fresh);
  const known = new Map();
  for (const child of old.childNodes) {
    const name = key(child);
    known.set(name, [...(known.get(name) ?? []), child]);
  }
  let place = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const same = known.get(key(child))?.shift();
    if (same) {
      patch(same, child);
      if (same === place) place = place.nextSibling;
      else if (old.moveBefore) old.moveBefore(same, place); // keeps the focus in it
      else old.insertBefore(same, place);
    } else {
      old.insertBefore(document.importNode(child, true), place);
    }
  }
  for (const rest of known.values()) for (const child of rest) child.remove();
}

function show(fresh) {
  const before = states();
  const focus = document.activeElement;
  const seen = scrollY > 0 && document.elementFromPoint(innerWidth / 3, innerHeight / 2);
  const anchor = focus.closest('tr') ?? (seen || body).closest('tr');
  const top = anchor?.getBoundingClientRect().top;
  setClock(fresh.body.dataset.now);
  words.read = fresh.body.dataset.read ?? '';
  complete(fresh);
  patch(document.querySelector('main'), fresh.querySelector('main'));
  document.title = fresh.title;
  const icon = document.querySelector('link[rel=icon]');
  patchAttributes(icon, fresh.querySelector('link[rel=icon]'));
  if (focus.isConnected && focus !== document.activeElement) focus.focus({ preventScroll: true });
  // Rows that come and go above push away what somebody reads, but not what is new at the top.
  if (seen && anchor?.isConnected) scrollBy(0, anchor.getBoundingClientRect().top - top);
  announce(before, states());
}

// --- Transitions, said to screen readers

const pending = new Map(); // sentences by circuit: of one that changes twice, the latest
let said = -QUIET;
let saying = 0;

function states() {
  const found = new Map();
  for (const row of document.querySelectorAll('.circuits tbody tr, h1[data-state]')) {
    const name = row.querySelector('bdi, i').textContent;
    const state = row.dataset.state ?? row.className;
    const word = (row.localName === 'tr' ? row : document).querySelector('td .s, .now .s').textContent;
    found.set(name, { state, word });
  }
  return found;
}

function announce(before, after) {
  for (const [name, { state, word }] of after) {
    const was = before.get(name);
    if (was ? was.state !== state : before.size && state !== 'closed') {
      pending.set(name, `${name}: ${word}`);
    }
  }
  if (!pending.size || saying) return;
  saying = setTimeout(() => {
    document.getElementById('said').textContent = [...pending.values()].join('. ');
    pending.clear();
    said = performance.now();
    saying = 0;
  }, Math.max(0, said + QUIET - performance.now()));
}

// --- Polling

function fresh() {
  const read = words.read; // when the server read its data, if it can't read them anew
  const age = read ? clock() - read : (performance.now() - heard) / 1000;
  const old = failures > 0 || over || read;
  page.classList.toggle('old', !!old);
  page.classList.toggle('live', !old);
  const text = over ? words.gone : old ? words.stale : words.live;
  write(document.getElementById('fresh'), text.replace('#', duration(age)));
}

function schedule() {
  clearTimeout(timer);
  if (document.hidden || over) return;
  const wait = Math.min(LONGEST, EVERY * 2 ** failures);
  timer = setTimeout(poll, wait * (0.8 + 0.2 * Math.random())); // tabs must not fall into step
}

async function poll() {
  try {
    const headers = etag ? { 'If-None-Match': etag } : {};
    const signal = AbortSignal.timeout(10_000);
    const answer = await fetch(location.href, { headers, signal, cache: 'no-store' });
    if (answer.status === 401 || answer.status === 403 || answer.redirected) over = true;
    else if (answer.status !== 304) {
      if (!answer.ok) throw new Error(answer.status);
      const found = new DOMParser().parseFromString(await answer.text(), 'text/html');
      if (!found.body.dataset.poll) throw new Error('another page');
      show(found);
      etag = answer.headers.get('ETag');
    }
    if (!over) {
      failures = 0;
      heard = performance.now();
    }
  } catch {
    failures += 1;
  }
  fresh();
  schedule();
}

// --- The dialog of a control, above the page

async function ask(link) {
  const answer = await fetch(link.href);
  const found = new DOMParser().parseFromString(await answer.text(), 'text/html');
  const form = found.querySelector('form.dialog');
  if (!answer.ok || !form) return location.assign(link.href);
  const dialog = document.createElement('dialog');
  dialog.setAttribute('aria-labelledby', 'asks');
  dialog.append(document.importNode(form, true));
  dialog.addEventListener('close', () => { dialog.remove(); link.focus(); });
  dialog.addEventListener('click', (event) => {
    if (event.target !== dialog && !event.target.closest('.cancel')) return;
    event.preventDefault();
    dialog.close();
  });
  body.append(dialog);
  dialog.showModal();
}

document.addEventListener('click', (event) => {
  const link = event.target.closest('a[data-dialog]');
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  ask(link).catch(() => location.assign(link.href));
});

page.classList.add('js');
setClock(words.now);
complete(document);
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
write(document.getElementById('zone'), words.times.replace('#', zone));
if (words.poll) {
  fresh();
  schedule();
  setInterval(() => { if (!document.hidden) { tick(document); fresh(); } }, 1000);
  document.addEventListener('visibilitychange', () => {
    clearTimeout(timer);
    if (!document.hidden) poll();
  });
}
