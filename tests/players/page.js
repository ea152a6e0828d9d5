// Runs in the browser: one adapter per player with the same five verbs, a recorder of what is seen, and the tour
// through the levels. It judges nothing; verdict.mjs does that from the record.
/* global Hls, dashjs, shaka */
const video = document.querySelector('video');
const canvas = document.createElement('canvas');
const pixels = canvas.getContext('2d', { willReadFrequently: true });
const AHEAD = 6; // seconds that dash.js may buffer of a recording
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

const record = { levels: [], clock: [], samples: [], windows: [], latency: [], fatal: [], errors: [], waits: 0, started: null, ended: null };
const fatal = (text) => record.fatal.push(String(text).slice(0, 300));
const minor = (text) => record.errors.length < 20 && record.errors.push(String(text).slice(0, 300));

// ---- players: open(url) resolves to { levels, show(i, now), shown(), latency() } ----------------------------------

const adapters = {
  'hls.js': openHls,
  'dash.js': openDash,
  'shaka-dash': openShaka,
  'shaka-hls': openShaka,
};

function openHls(url) {
  const hls = new Hls();
  hls.on(Hls.Events.ERROR, (_, e) => (e.fatal ? fatal : minor)(`${e.type}/${e.details} ${e.reason ?? e.error?.message ?? ''}`));
  return new Promise((done) => {
    hls.on(Hls.Events.MANIFEST_PARSED, () => done({
      levels: hls.levels.map((l) => ({ width: l.width, height: l.height, bitrate: l.bitrate, fps: l.frameRate || null, codec: l.videoCodec })),
      show: (i, now) => { if (now) hls.currentLevel = i; else hls.nextLevel = i; },
      shown: () => hls.currentLevel,
      latency: () => hls.latency,
    }));
    hls.loadSource(url);
    hls.attachMedia(video);
  });
}

function openDash(url, live) {
  const player = dashjs.MediaPlayer().create();
  player.on('error', (e) => fatal(`${e.error?.code ?? ''} ${e.error?.message ?? e.error}`));
  player.on('playbackError', (e) => fatal(e.error?.message ?? e.error ?? 'playback error'));
  player.initialize(null, null, true);
  // Once it has buffered a recording to the end it ignores a switch: keep it from getting there.
  const buffer = { bufferTimeDefault: AHEAD, bufferTimeAtTopQuality: AHEAD, bufferTimeAtTopQualityLongForm: AHEAD };
  player.updateSettings({ streaming: { abr: { autoSwitchBitrate: { video: false } }, ...(live ? {} : { buffer }) } });
  const list = () => player.getRepresentationsByType('video');
  return new Promise((done) => {
    player.on('streamInitialized', () => done({
      levels: list().map((r) => ({ width: r.width, height: r.height, bitrate: r.bandwidth, fps: Number(r.frameRate) || null, codec: r.codecs })),
      // A forced replacement removes the picture under the playhead too and shows none until the next key frame.
      show: (i, now) => player.setRepresentationForTypeByIndex('video', i, now),
      shown: () => list().findIndex((r) => r.id === player.getCurrentRepresentationForType('video')?.id),
      latency: () => player.getCurrentLiveLatency(),
    }));
    player.attachView(video);
    player.attachSource(url);
  });
}

async function openShaka(url) {
  shaka.polyfill.installAll();
  const player = new shaka.Player();
  const say = (e) => `shaka ${e.code} ${JSON.stringify(e.data)?.slice(0, 200)}`;
  player.addEventListener('error', ({ detail }) => (detail.severity === 2 ? fatal : minor)(say(detail)));
  player.configure('abr.enabled', false);
  await player.attach(video);
  try {
    await player.load(url);
  } catch (e) {
    fatal(`load: ${say(e)}`);
  }
  // A variant is a pair of video and audio; one per video level is enough here.
  const list = () => {
    const seen = new Set();
    const fresh = (t) => !seen.has(t.originalVideoId) && seen.add(t.originalVideoId);
    return player.getVariantTracks().sort((a, b) => a.bandwidth - b.bandwidth).filter(fresh);
  };
  return {
    levels: list().map((t) => ({ width: t.width, height: t.height, bitrate: t.bandwidth, fps: t.frameRate || null, codec: t.videoCodec })),
    show: (i) => player.selectVariantTrack(list()[i], true),
    shown: () => list().findIndex((t) => t.active),
    latency: () => (player.isLive() ? (Date.now() - player.getPlayheadTimeAsDate()) / 1000 : null),
  };
}

// ---- the recorder -----------------------------------------------------------------------------------------------

function watchClock() {
  video.addEventListener('waiting', () => record.waits++);
  video.addEventListener('playing', () => { record.started ??= performance.now(); });
  video.addEventListener('ended', () => { record.ended ??= performance.now(); });
  video.addEventListener('error', () => fatal(`video element: ${video.error?.message || `code ${video.error?.code}`}`));
  setInterval(() => {
    const q = video.getVideoPlaybackQuality();
    record.clock.push({ t: performance.now(), media: video.currentTime, frames: q.totalVideoFrames, dropped: q.droppedVideoFrames, height: video.videoHeight });
  }, 100);
}

/** Reads the counter off the shown picture several times a second: each frame would cost a loaded machine too much. */
function watchCounter(bits) {
  let last = 0;
  const look = (_, meta) => {
    video.requestVideoFrameCallback(look);
    const t = performance.now();
    if (t - last < 120) return;
    last = t;
    record.samples.push({ t, media: meta.mediaTime, height: meta.height, counter: bits ? readCounter(bits) : null });
  };
  video.requestVideoFrameCallback(look);
}

/** Block i, from the left, is bit i; a block is 1/32 of the width and 1/18 of the height. null: no clear black or white. */
function readCounter(bits) {
  const block = video.videoWidth / 32;
  const strip = Math.max(1, Math.floor(video.videoHeight / 18));
  canvas.width = Math.ceil(block * bits);
  canvas.height = strip;
  // Natural size, so that no scaler mixes neighbouring blocks.
  pixels.drawImage(video, 0, 0, canvas.width, strip, 0, 0, canvas.width, strip);
  const row = pixels.getImageData(0, Math.floor(strip / 2), canvas.width, 1).data;
  let value = 0;
  for (let i = 0; i < bits; i++) {
    const at = Math.floor((i + 0.5) * block) * 4;
    const luma = 0.2126 * row[at] + 0.7152 * row[at + 1] + 0.0722 * row[at + 2];
    if (Math.abs(luma - 128) < 40) return null;
    if (luma >= 128) value += 2 ** i;
  }
  return value;
}

// ---- the tour ---------------------------------------------------------------------------------------------------

/** Polls until `test` holds; false when the time is up or nothing can come any more. */
async function until(test, seconds) {
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end && record.fatal.length === 0) {
    if (test()) return true;
    await sleep(50);
  }
  return test();
}

/** A recording may be shorter than the tour. */
const needsRewind = (options) => !options.live && Number.isFinite(video.duration) && video.duration - video.currentTime < options.seconds + AHEAD + 4;

async function visit(player, index, options) {
  const { height } = player.levels[index];
  const rewind = needsRewind(options);
  const asked = performance.now();
  const shows = () => video.videoHeight === height && player.shown() === index && video.readyState >= 3 && !video.seeking;
  if (rewind) {
    video.currentTime = 0;
    await until(() => !video.seeking, options.patience);
  }
  // What is buffered there is of an older level, so it has to go at once; elsewhere the players may switch smoothly.
  player.show(index, rewind);
  const reached = await until(shows, options.patience);
  const from = performance.now();
  if (reached) await until(() => performance.now() - from >= options.seconds * 1000 || record.ended, options.seconds + 1);
  record.windows.push({ index, reached, rewind, asked, from, to: performance.now(), height: video.videoHeight, shown: player.shown() });
}

async function play(options) {
  const opened = await Promise.race([adapters[options.player](options.url, options.live), sleep(options.patience * 1000)]);
  if (!opened) return fatal('the manifest was not parsed in time');
  record.levels = opened.levels;
  video.play().catch((e) => minor(`play(): ${e.message}`));
  if (!(await until(() => record.started !== null, options.patience))) return fatal('never began to play');
  if (options.live) setInterval(() => record.latency.push(opened.latency()), 500);
  for (let i = 0; i < opened.levels.length && record.fatal.length === 0 && !record.ended; i++) {
    if (!options.only || opened.levels[i].height === options.only) await visit(opened, i, options);
  }
  record.toured = performance.now();
  if (options.untilEnd) await until(() => record.ended !== null, options.endSeconds);
}

window.run = async (options) => {
  watchClock();
  watchCounter(options.bits);
  try {
    await play(options);
  } catch (e) {
    fatal(`harness: ${e.stack ?? e}`);
  }
  record.stopped = performance.now();
  return record;
};
