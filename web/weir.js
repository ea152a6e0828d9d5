// The worker's status page. Asks the worker each second and writes what changed into the page that index.html laid out.
// Whatever comes from the API is put in as text, never as markup, and any field of it may be missing.
/* global Hls */

const POLL_MS = 1000;
const POLL_HIDDEN_MS = 5000;
const TIMEOUT_MS = 4000;
const WORKER_EVERY = 5; // the worker's own facts change slowly
const SPARK_POINTS = 60;
const LONG_GOP_S = 4.5; // above this the source can't be passed through
const SLOW = 0.98; // a rung below real time falls behind
const NONE = '–';

const $ = (id) => document.getElementById(id);

// ---- small tools ------------------------------------------------------------------------------------------------

function el(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** Writes only what changed: a selection or a screen reader is not disturbed each second. */
function setText(node, value) {
  const text = value === null || value === undefined || value === '' ? NONE : String(value);
  if (node.textContent !== text) node.textContent = text;
}

function setClass(node, name, on) {
  if (node.classList.contains(name) !== on) node.classList.toggle(name, on);
}

function setAttr(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

function setValue(input, value) {
  if (input.value !== value) input.value = value;
}

const isNumber = (x) => typeof x === 'number' && Number.isFinite(x);
const list = (x) => (Array.isArray(x) ? x : []);

// ---- words for numbers ------------------------------------------------------------------------------------------

function rate(bits) {
  if (!isNumber(bits)) return null;
  return bits >= 1e6 ? `${(bits / 1e6).toFixed(1)}\u00a0Mbit/s` : `${Math.round(bits / 1000)}\u00a0kbit/s`;
}

const frameRate = (fps) => (isNumber(fps) ? String(Number(fps.toFixed(2))) : null);
const size = (v) => (isNumber(v?.width) && isNumber(v?.height) ? `${v.width}×${v.height}` : null);
const shortSide = (v) => (isNumber(v?.height) && v.height > 0 ? `${Math.min(v.width || v.height, v.height)}p` : null);
const shortFormat = (v) => (shortSide(v) ? shortSide(v) + (frameRate(v.fps) ?? '') : null);
const seconds = (s) => (isNumber(s) ? `${s.toFixed(1)} s` : null);
const count = (n) => (isNumber(n) ? n.toLocaleString('en') : null);
const join = (...parts) => parts.filter(Boolean).join(' · ');

function duration(ms) {
  if (!isNumber(ms)) return null;
  const s = Math.max(0, Math.floor(ms / 1000));
  const two = (n) => String(n).padStart(2, '0');
  const clock = `${two(Math.floor(s / 3600) % 24)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  return s >= 86400 ? `${Math.floor(s / 86400)} d ${clock}` : clock;
}

const H264_PROFILES = { '42': 'Baseline', '4d': 'Main', '58': 'Extended', '64': 'High', '6e': 'High 10', '7a': 'High 4:2:2' };

/** `avc1.64001f` says everything, but not to a human. */
function codecName(codec) {
  if (typeof codec !== 'string') return null;
  const [kind, detail = ''] = codec.split('.');
  if (/^avc[13]$/.test(kind)) {
    const level = parseInt(detail.slice(4, 6), 16) / 10;
    return ['H.264', H264_PROFILES[detail.slice(0, 2).toLowerCase()], isNumber(level) ? level.toFixed(1) : null].filter(Boolean).join(' ');
  }
  if (/^h(vc|ev)1$/.test(kind)) return 'HEVC';
  if (kind === 'av01') return 'AV1';
  if (codec === 'mp4a.40.2') return 'AAC-LC';
  if (codec === 'mp4a.40.5' || codec === 'mp4a.40.29') return 'HE-AAC';
  return kind.toLowerCase() === 'opus' ? 'Opus' : codec;
}

function setCodec(node, codec, ...rest) {
  setText(node, join(codecName(codec), ...rest));
  setAttr(node, 'title', codec);
}

const channels = (n) => ({ 1: 'mono', 2: 'stereo', 6: '5.1' })[n] ?? (isNumber(n) ? `${n} ch` : null);
const KINDS = { source: 'passed through', encoded: 'encoded', audio: 'audio' };
const STATES = { live: 'Live', probing: 'Probing', paused: 'Paused', ending: 'Ending', ended: 'Ended' };

// ---- state of the page ------------------------------------------------------------------------------------------

const page = {
  worker: null,
  streams: [],
  clockOffset: 0, // the worker's clock minus ours
  selected: null,
  last: null, // the selected stream as it was last seen
  failedSince: null,
};

const now = () => Date.now() + page.clockOffset;
const since = (iso) => duration(now() - Date.parse(iso));

// ---- the worker's line ------------------------------------------------------------------------------------------

function showWorker() {
  const w = page.worker ?? {};
  setText($('w-name'), w.name);
  setText($('w-region'), w.region);
  setText($('w-streams'), page.streams.length);
  setText($('w-encoder'), w.encoder);
  setAttr($('w-encoder'), 'title', w.encoder_reason);
  setText($('w-uptime'), since(w.started_at));
  setText($('w-version'), w.version);
  setText($('w-gstreamer'), w.gstreamer);
  showRoom(w.capacity);
  showGpus(w.gpu);
  showStore(w.store);
  showCopies(w.replication);
  const name = w.name ? `${w.name} · Weir` : 'Weir';
  const title = page.failedSince ? `Unreachable · ${name}` : name;
  if (document.title !== title) document.title = title;
}

function showStore(store) {
  const node = $('w-store');
  const known = typeof store?.healthy === 'boolean';
  setClass(node, 'dot', known);
  setAttr(node, 'data-state', known ? (store.healthy && !store.unfenced ? 'good' : 'bad') : null);
  setClass(node, 'trouble', store?.healthy === false);
  const fence = store?.unfenced ? ', two workers are not kept apart' : '';
  setText(node, known ? `${store.kind ?? ''} ${store.healthy ? 'healthy' : 'failing'}${fence}`.trim() : store?.kind);
  node.title = store?.unfenced ?? '';
}

/** How many more streams of the reference kind would be taken. */
function showRoom(capacity) {
  const node = $('w-room');
  const accepts = capacity?.accepts ?? {};
  const full = capacity?.state === 'full';
  const known = typeof capacity?.state === 'string';
  setClass(node, 'dot', known);
  setAttr(node, 'data-state', known ? (capacity.state === 'ready' ? 'good' : 'bad') : null);
  setClass(node, 'trouble', full);
  const more = isNumber(accepts['1080p30']) ? `${accepts['1080p30']} more of 1080p30` : null;
  setText(node, known ? (capacity.state === 'ready' ? more : capacity.state) : null);
  const kinds = Object.entries(accepts).map(([kind, n]) => `${kind}: ${n}`);
  node.title = [...kinds, capacity?.scarce ? `scarce: ${capacity.scarce} (${capacity.basis})` : ''].join('\n').trim();
}

/** How busy the GPUs are; nothing is shown where there are none. */
function showGpus(gpu) {
  const node = $('w-gpu');
  node.parentElement.hidden = !gpu;
  if (!gpu) return;
  const silent = gpu.watcher?.trouble ?? gpu.monitor_fault;
  const lost = list(gpu.devices).filter((d) => d.lost);
  const busy = list(gpu.devices).map((d) => (d.lost ? 'lost' : `${d.encoder?.percent ?? '?'} %`));
  setClass(node, 'dot', true);
  setAttr(node, 'data-state', silent || lost.length > 0 ? 'bad' : 'good');
  setClass(node, 'trouble', Boolean(silent) || lost.length > 0);
  setText(node, silent ? 'not answering' : `encoders ${busy.join(', ')}`);
  node.title = silent ?? list(gpu.devices).map((d) => `GPU ${d.index} ${d.name}${d.fault ? `: ${d.fault}` : ''}`).join('\n');
}

/** Copies in another region; nothing is shown where none are wanted. */
function showCopies(copies) {
  const node = $('w-copies');
  node.parentElement.hidden = !copies;
  if (!copies) return;
  const wrong = list(copies.configuration);
  const bad = wrong.length > 0 || copies.state === 'alarm' || copies.state === 'breach';
  setClass(node, 'dot', true);
  setAttr(node, 'data-state', bad ? 'bad' : copies.state === 'ok' ? 'good' : null);
  setClass(node, 'trouble', bad);
  const behind = typeof copies.rpo_seconds === 'number' && copies.samples > 0 ? `, at most ${copies.rpo_seconds} s behind` : '';
  setText(node, wrong.length > 0 ? 'bucket is not set up' : `${copies.state}${behind}`);
  node.title = wrong.join('\n');
}

/** A worker that listens on all addresses is reached by the name that this page was reached by. */
function publishAddress() {
  const address = list(page.worker?.rtmp).find((a) => typeof a === 'string');
  return address?.replace(/\/\/(0\.0\.0\.0|\[::\])(?=[:/]|$)/, `//${location.hostname}`) ?? '';
}

function showPublish() {
  const open = page.worker?.open === true;
  setValue($('p-server'), publishAddress());
  setValue($('e-server'), publishAddress());
  setValue($('e-key'), open ? 'demo' : 'your stream key');
  $('e-key').nextElementSibling.hidden = !open;
  setText($('e-note'), open ? 'Any stream key is accepted: it becomes the name of the stream.' : 'The stream key is the one that you were given.');
  setText($('p-hint'), `Stream key: ${open ? 'any name.' : 'the one you were given.'}`);
}

// ---- the list of streams ----------------------------------------------------------------------------------------

const rows = new Map(); // id -> nodes of its row
const address = (id) => `#/${encodeURIComponent(id)}`;

function makeRow(id) {
  const row = {
    link: el('a', 'stream'), name: el('span', 'stream-name'), facts: el('span', 'stream-facts'), time: el('span', 'stream-time'),
    warn: el('span', 'stream-warn'), line: null, history: [], still: el('img'),
  };
  row.still.alt = '';
  row.still.hidden = true;
  row.still.addEventListener('load', () => (row.still.hidden = false));
  row.still.addEventListener('error', () => (row.still.hidden = true));
  row.frame = el('span', 'stream-still', row.still);
  const spark = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  row.line = document.createElementNS('http://www.w3.org/2000/svg', 'polyline');
  spark.append(row.line);
  spark.setAttribute('class', 'spark');
  spark.setAttribute('viewBox', `0 0 ${SPARK_POINTS - 1} 16`);
  spark.setAttribute('preserveAspectRatio', 'none');
  spark.setAttribute('aria-hidden', 'true');
  row.link.append(row.frame, row.name, el('span', 'stream-side', row.warn, spark), row.facts, row.time);
  row.link.href = address(id);
  row.item = el('li', '', row.link);
  return row;
}

function showList() {
  const wanted = [...page.streams].sort((a, b) => String(a.id).localeCompare(String(b.id)));
  const ids = new Set(wanted.map((s) => s.id));
  for (const [id, row] of rows) {
    if (ids.has(id)) continue;
    row.item.remove();
    rows.delete(id);
  }
  wanted.forEach((stream, i) => {
    if (!rows.has(stream.id)) rows.set(stream.id, makeRow(stream.id));
    const row = rows.get(stream.id);
    if ($('list').children[i] !== row.item) $('list').insertBefore(row.item, $('list').children[i] ?? null);
    showRow(row, stream);
  });
  $('list-empty').hidden = wanted.length > 0;
}

function showRow(row, stream) {
  const video = stream.input?.video;
  const warnings = list(stream.warnings).length;
  setText(row.name, stream.id);
  const state = STATES[stream.state] ?? stream.state;
  setText(row.facts, join(stream.state === 'live' ? null : state, shortFormat(video), rate(video?.bitrate)));
  setText(row.time, since(stream.since));
  if (row.warn.textContent !== (warnings ? `▲ ${warnings}` : '')) row.warn.textContent = warnings ? `▲ ${warnings}` : '';
  setAttr(row.warn, 'title', warnings ? list(stream.warnings).join('\n') : null);
  setAttr(row.link, 'data-state', stream.state);
  setAttr(row.link, 'aria-current', stream.id === page.selected ? 'true' : null);
  drawSpark(row, video?.bitrate);
  showStill(row, stream);
}

/** The frame is there before its picture, and whatever the picture's shape: nothing moves. Each picture is loaded once. */
function showStill({ still, frame }, { id, thumbnail }) {
  const { url, at, reason } = thumbnail ?? {};
  setAttr(frame, 'title', url ? null : reason);
  if (typeof url !== 'string') return void (still.hidden = true);
  const source = `${url}?${Date.parse(at) || 0}`;
  if (still.getAttribute('src') === source) return;
  still.src = source;
  still.alt = `Latest picture of ${id}`;
}

/** The input bitrate of the last minute, from zero, so that a dip looks like one. */
function drawSpark(row, bitrate) {
  row.history.push(isNumber(bitrate) ? bitrate : 0);
  if (row.history.length > SPARK_POINTS) row.history.shift();
  const top = Math.max(...row.history) * 1.15;
  const from = SPARK_POINTS - row.history.length;
  setAttr(row.line, 'points', top > 0 ? row.history.map((b, i) => `${from + i},${(16 - (b / top) * 16).toFixed(1)}`).join(' ') : '');
}

/** Up and down go through the list, as in any list. */
function walkList(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const links = [...$('list').querySelectorAll('a')];
  const next = links[links.indexOf(document.activeElement) + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
  location.hash = next.hash;
}

// ---- which stream is selected -----------------------------------------------------------------------------------

function chosenByAddress() {
  if (!location.hash.startsWith('#/')) return null;
  try {
    return decodeURIComponent(location.hash.slice(2)) || null;
  } catch {
    return null;
  }
}

/** A stream that was chosen stays selected while it is away, so that it comes back by itself. */
function select() {
  const chosen = chosenByAddress();
  const there = (id) => page.streams.some((s) => s.id === id);
  const next = chosen ?? (there(page.selected) ? page.selected : [...page.streams].map((s) => s.id).sort()[0] ?? null);
  if (next !== page.selected) page.last = null;
  page.selected = next;
}

// ---- one stream -------------------------------------------------------------------------------------------------

function showDetail() {
  const stream = page.streams.find((s) => s.id === page.selected) ?? null;
  const known = stream ?? page.last;
  const nothing = page.streams.length === 0 && !known;
  $('empty').hidden = !nothing || page.worker === null;
  $('publish').hidden = nothing;
  $('detail').hidden = page.selected === null || nothing;
  if (stream) page.last = stream;
  setClass($('detail'), 'gone', !stream);
  if ($('detail').hidden) return player.leave();
  const s = known ?? { id: page.selected };
  showTitle(s, stream !== null);
  showInput(s);
  showProcess(s);
  showWarnings(list(s.warnings));
  showLadder(list(s.rungs));
  showAddress('hls', absolute(s.playback?.hls));
  showAddress('dash', absolute(s.playback?.dash));
  player.follow(s, stream !== null);
}

function showAddress(kind, url) {
  setValue($(`a-${kind}`), url);
  setAttr($(`l-${kind}`), 'href', url || null);
  $(`a-${kind}`).nextElementSibling.disabled = url === '';
}

function showTitle(s, here) {
  setText($('d-name'), s.id);
  setText($('d-state'), here ? STATES[s.state] ?? s.state : 'Away');
  setAttr($('d-state'), 'data-state', here ? s.state : null);
  if (here || !s.since) setText($('d-uptime'), since(s.since));
  setText($('d-publisher'), s.publisher);
  setText($('d-session'), s.session);
}

function showInput({ input, passthrough }) {
  const { video, audio } = input ?? {};
  setCodec($('i-video'), video?.codec);
  setText($('i-size'), join(size(video), isNumber(video?.fps) ? `${frameRate(video.fps)} fps` : null));
  setText($('i-bitrate'), rate(video?.bitrate));
  setText($('i-gop'), isNumber(video?.gop_seconds) ? `every ${video.gop_seconds.toFixed(1)} s` : null);
  setClass($('i-gop'), 'attn', video?.gop_seconds > LONG_GOP_S);
  setCodec($('i-audio'), audio?.codec, isNumber(audio?.rate) ? `${Number((audio.rate / 1000).toFixed(2))} kHz` : null, channels(audio?.channels));
  setText($('i-abitrate'), rate(audio?.bitrate));
  setText($('i-loudness'), loudness(audio?.loudness));
  setText($('i-top'), typeof passthrough === 'boolean' ? (passthrough ? 'source, passed through' : 'encoded') : null);
}

function loudness(measured) {
  const { integrated_lufs: lufs, gain_db: gain } = measured ?? {};
  if (!isNumber(lufs)) return null;
  return join(`${lufs.toFixed(1)} LUFS`, isNumber(gain) ? `${gain < 0 ? '\u2212' : '+'}${Math.abs(gain).toFixed(1)} dB` : null);
}

function showProcess(s) {
  setText($('c-pid'), isNumber(s.codec_pid) ? join(`pid ${s.codec_pid}`, s.encoder_class?.class) : null);
  setText($('c-restarts'), count(s.codec_restarts));
  setClass($('c-restarts'), 'attn', s.codec_restarts > 0);
  setText($('c-segments'), count(s.segments));
  setText($('c-gaps'), count(s.gaps));
  setClass($('c-gaps'), 'trouble', s.gaps > 0);
  setText($('c-breaks'), count(s.discontinuities));
}

function showWarnings(warnings) {
  const texts = warnings.length ? warnings.map(String) : ['None'];
  fill($('d-warnings'), texts.length, () => el('li'));
  texts.forEach((text, i) => {
    setText($('d-warnings').children[i], text);
    setClass($('d-warnings').children[i], 'none', warnings.length === 0);
  });
}

const CELLS = ['', 'wide', '', 'n', 'wide', 'n', 'n', 'n widest', 'n'];

function showLadder(rungs) {
  fill($('rungs'), rungs.length, () => el('tr', '', ...CELLS.map((c) => el('td', c))));
  rungs.forEach((rung, i) => {
    const [name, kind, dims, fps, codec, bitrate, speed, segments, gaps] = $('rungs').children[i].children;
    setText(name, rung?.name);
    setText(kind, KINDS[rung?.kind] ?? rung?.kind);
    setText(dims, size(rung));
    setText(fps, frameRate(rung?.fps));
    setCodec(codec, rung?.codec);
    setText(bitrate, rate(rung?.bitrate));
    setText(speed, isNumber(rung?.speed) ? `${rung.speed.toFixed(2)}×` : null);
    setClass(speed, 'attn', isNumber(rung?.speed) && rung.speed < SLOW);
    setText(segments, count(rung?.segments));
    setText(gaps, count(rung?.gaps));
    setClass(gaps, 'trouble', rung?.gaps > 0);
  });
}

function fill(parent, length, make) {
  while (parent.children.length > length) parent.lastElementChild.remove();
  while (parent.children.length < length) parent.append(make());
}

function absolute(path) {
  return typeof path === 'string' && path ? new URL(path, location.href).href : '';
}

// ---- the player -------------------------------------------------------------------------------------------------

const video = $('video');

/** Plays the selected stream: loads it again after errors, and when a new session begins at the same address. */
const player = {
  hls: null,
  url: null,
  session: null,
  retryAt: 0,
  failures: 0,
  recovered: false,
  finished: false,

  follow(stream, here) {
    const url = absolute(stream.playback?.hls);
    const begun = here && url !== '' && stream.state !== 'probing' && (stream.segments ?? 1) > 0;
    const other = url !== this.url || (stream.session ?? null) !== this.session;
    if (other && (begun || url !== this.url)) this.leave();
    if (begun && !this.hls && !this.finished && Date.now() >= this.retryAt) this.open(url, stream.session ?? null);
    this.veil(this.message(stream, here, begun));
    this.measure();
  },

  open(url, session) {
    Object.assign(this, { url, session, recovered: false });
    if (!globalThis.Hls?.isSupported()) return this.openNative(url);
    // No worker: fragmented MP4 needs no remuxing, and so the page needs no blob scripts.
    this.hls = new Hls({ enableWorker: false, backBufferLength: 30 });
    this.hls.on(Hls.Events.ERROR, (_, e) => e.fatal && this.onFatal(e));
    this.hls.on(Hls.Events.MANIFEST_PARSED, () => showLevels(this.hls));
    this.hls.on(Hls.Events.FRAG_BUFFERED, () => { this.failures = 0; });
    this.hls.loadSource(url);
    this.hls.attachMedia(video);
    play();
  },

  /** Safari on a phone has no Media Source, but plays HLS by itself. */
  openNative(url) {
    if (!video.canPlayType('application/vnd.apple.mpegurl')) return;
    this.hls = { destroy: () => video.removeAttribute('src') };
    video.src = url;
    play();
  },

  onFatal(error) {
    if (error.type === Hls.ErrorTypes.MEDIA_ERROR && !this.recovered) {
      this.recovered = true;
      this.hls.recoverMediaError();
      return play();
    }
    this.close();
    this.failures++;
    this.retryAt = Date.now() + Math.min(10_000, 1000 * 2 ** Math.min(this.failures - 1, 4));
  },

  close() {
    this.hls?.destroy();
    this.hls = null;
    showLevels(null);
  },

  leave() {
    if (!this.url) return;
    this.close();
    Object.assign(this, { url: null, session: null, retryAt: 0, failures: 0, finished: false });
  },

  message(stream, here, begun) {
    if (!here) return stream.state ? 'The stream is away. It plays again when it returns.' : 'There is no stream of this name now. It plays here when it begins.';
    if (this.finished || (stream.state === 'ended' && video.readyState < 2)) return 'The stream has ended.';
    if (!begun) return 'Waiting for the first segment';
    if (!this.hls && this.failures > 0) return 'The stream can’t be loaded. Trying again.';
    if (!this.hls) return 'This browser can’t play the stream.';
    if (video.readyState < 2) return stream.state === 'paused' ? 'The publisher is away.' : 'Loading';
    return '';
  },

  veil(text) {
    if ($('veil').textContent === text) return;
    $('veil').textContent = text;
    video.controls = text === '';
  },

  measure() {
    const hls = this.hls instanceof (globalThis.Hls ?? Object) ? this.hls : null;
    const showing = this.hls !== null && video.readyState >= 2;
    const level = hls?.levels?.[hls.currentLevel];
    setText($('m-latency'), showing ? seconds(latencyOf(hls)) : null);
    setText($('m-level'), showing ? join(shortSide(level) ?? (video.videoHeight ? `${video.videoHeight}p` : null), rate(level?.bitrate)) : null);
    setText($('m-buffer'), showing ? seconds(bufferAhead()) : null);
    setText($('m-dropped'), showing ? droppedFrames() : null);
    markLevel(hls?.currentLevel ?? -1);
    $('golive').disabled = !(hls && isNumber(hls.liveSyncPosition) && hls.liveSyncPosition - video.currentTime > 4);
  },
};

/** Browsers let muted video start by itself; where they don't, its own controls do. */
function play() {
  video.play().catch(() => {});
}

/** By the dates in the playlist where it has them, else against its last segment. */
function latencyOf(hls) {
  const date = hls?.playingDate;
  return date ? Math.max(0, (now() - date.getTime()) / 1000) : hls?.latency;
}

function bufferAhead() {
  const { buffered, currentTime } = video;
  for (let i = 0; i < buffered.length; i++) {
    if (currentTime >= buffered.start(i) - 0.1 && currentTime <= buffered.end(i)) return buffered.end(i) - currentTime;
  }
  return 0;
}

function droppedFrames() {
  const { droppedVideoFrames: dropped, totalVideoFrames: total } = video.getVideoPlaybackQuality();
  return total ? `${dropped} (${((100 * dropped) / total).toFixed(1)} %)` : '0';
}

/** Auto and one button for each level, the highest first. */
function showLevels(hls) {
  const levels = (hls?.levels ?? []).map((level, index) => ({ index, name: shortSide(level) ?? rate(level.bitrate) ?? `Level ${index + 1}` }));
  const old = [...$('levels').querySelectorAll('label')];
  old.forEach((node) => node.remove());
  if (levels.length === 0) return;
  for (const { index, name } of [{ index: -1, name: 'Auto' }, ...levels.reverse()]) {
    const input = el('input');
    Object.assign(input, { type: 'radio', name: 'level', value: String(index), checked: index === -1 });
    input.addEventListener('change', () => { hls.nextLevel = index; });
    $('levels').append(el('label', '', input, el('span', '', name)));
  }
}

function markLevel(current) {
  for (const label of $('levels').querySelectorAll('label')) {
    const playing = current >= 0 && label.firstElementChild.value === String(current);
    setAttr(label, 'data-playing', playing ? '' : null);
    setAttr(label.firstElementChild, 'aria-description', playing ? 'playing now' : null);
  }
}

function goLive() {
  const edge = player.hls?.liveSyncPosition;
  if (isNumber(edge)) video.currentTime = edge;
  play();
}

video.addEventListener('ended', () => {
  player.finished = true;
});

// ---- copy buttons -----------------------------------------------------------------------------------------------

async function copy(button) {
  const input = $(button.dataset.copy);
  input.focus();
  input.select();
  try {
    await navigator.clipboard.writeText(input.value);
  } catch {
    // No clipboard object on a page that came over plain HTTP from another machine.
    document.execCommand('copy');
  }
  button.focus();
  button.textContent = 'Copied';
  button.classList.add('done');
  setTimeout(() => {
    button.textContent = 'Copy';
    button.classList.remove('done');
  }, 1500);
}

// ---- asking the worker ------------------------------------------------------------------------------------------

async function ask(path) {
  const response = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) throw new Error(`it answers ${response.status} for ${path}`);
  noteClock(response.headers.get('date'));
  return response.json();
}

/** The header has whole seconds: a smaller difference is noise. */
function noteClock(date) {
  const offset = Date.parse(date) - Date.now();
  page.clockOffset = Math.abs(offset) > 2000 ? offset : 0;
}

let round = 0;

async function poll() {
  try {
    if (page.worker === null || round % WORKER_EVERY === 0) page.worker = (await ask('/v1/worker')) ?? {};
    const answer = await ask('/v1/streams');
    page.streams = list(answer?.streams).filter((s) => typeof s?.id === 'string' && s.id !== '');
    page.failedSince = null;
    round++;
  } catch (error) {
    page.failedSince ??= Date.now();
    round = 0;
    page.error = error.name === 'TimeoutError' ? 'no answer in time' : error instanceof TypeError ? 'no connection' : error.message;
  }
  show();
  setTimeout(poll, document.hidden ? POLL_HIDDEN_MS : POLL_MS);
}

function show() {
  select();
  showWorker();
  showPublish();
  showList();
  showDetail();
  showLink();
}

/** Over the page, not in it: what is being read stays where it is. */
function showLink() {
  const down = page.failedSince !== null;
  setText($('link-text'), down ? 'Unreachable' : 'Connected');
  setAttr($('link'), 'data-state', down ? 'bad' : 'good');
  setClass(document.body, 'stale', down);
  $('alarm').hidden = !down;
  if (down) setText($('alarm'), `The worker can’t be reached since ${new Date(page.failedSince).toLocaleTimeString()}: ${page.error}. What you see is from before. Trying again each second.`);
}

window.addEventListener('hashchange', () => {
  show();
  // On a phone the stream is below the list.
  if (chosenByAddress() && matchMedia('(max-width: 760px)').matches) $('detail').scrollIntoView();
});
document.addEventListener('visibilitychange', () => document.hidden || show());
document.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-copy]');
  if (button) copy(button);
});
$('list').addEventListener('keydown', walkList);
$('golive').addEventListener('click', goLive);
poll();
