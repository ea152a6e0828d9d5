// What a record of page.js proves. Pure: a record in, numbers and reasons out.

const SHARE = 0.8; // of frames and of wall time: room for slow switches, none for a stalled or half-decoded stream
const SLACK_FRAMES = 2; // a canvas may show the frame after the one that the callback names
const round = (x, digits = 2) => (x === null || x === undefined || !Number.isFinite(x) ? null : Number(x.toFixed(digits)));

/** `expected`: the heights that the manifest lists, read by the harness itself. */
export function judge(record, expected, options) {
  const reasons = record.fatal.map((e) => `fatal error: ${e}`);
  const levels = record.windows.map((w) => judgeLevel(record, w, options, reasons));
  const total = totals(record, options);
  judgeLevelList(record, expected, options.only, reasons);
  if (options.counter > 0 && options.resets === 0) judgeAlignment(levels, options, reasons);
  judgeTotals(record, total, options, reasons);
  if (options['until-end'] && record.ended === null) reasons.push('the end of the stream never fired `ended`');
  return { ok: reasons.length === 0, reasons, ...total, levels, errors: record.errors };
}

function judgeLevelList(record, expected, only, reasons) {
  const heights = new Set(record.levels.map((l) => l.height));
  if (record.levels.length === 0) reasons.push('the player knows no level');
  for (const h of expected) if (!heights.has(h)) reasons.push(`level ${h}p of the manifest is missing in the player`);
  const left = only ? record.levels.filter((l) => l.height !== only).length : 0;
  for (const l of record.levels.slice(record.windows.length + left)) reasons.push(`level ${l.height}p was not visited`);
}

function judgeTotals(record, total, options, reasons) {
  if (record.started === null) return;
  if (total.played_s < (total.wall_s - options.absence) * SHARE) reasons.push(`played ${total.played_s} s of ${total.wall_s} s`);
  if (total.frames < total.frames_due * SHARE) reasons.push(`decoded ${total.frames} of ${total.frames_due} frames`);
  const latency = total.latency?.max ?? null;
  if (options['max-latency'] > 0 && !(latency !== null && latency <= options['max-latency'])) {
    reasons.push(`latency ${latency} s is over ${options['max-latency']} s`);
  }
}

/** From the first `playing` to the end of the stream or of the tour. */
function totals(record, options) {
  const from = record.started ?? record.stopped;
  const to = record.ended ?? record.stopped;
  const clock = record.clock.filter((c) => c.t >= from && c.t <= to);
  const moved = movement(clock, (c) => frameRateAt(record, c.t, options));
  const last = record.clock.at(-1);
  const latencies = record.latency.filter(Number.isFinite);
  return {
    wall_s: round((to - from) / 1000),
    played_s: round(moved.played),
    frames: last?.frames ?? 0,
    frames_due: Math.round(moved.due),
    dropped: last?.dropped ?? 0,
    waits: record.waits,
    jumps: moved.jumps,
    ended: record.ended !== null,
    last_counter: record.samples.findLast((s) => s.counter !== null)?.counter ?? null,
    latency: latencies.length === 0 ? null : { min: round(Math.min(...latencies)), max: round(Math.max(...latencies)), last: round(latencies.at(-1)) },
  };
}

/** Media seconds that were played, not jumped over: a seek moves `currentTime` too. */
function movement(clock, fpsAt) {
  const sum = { played: 0, due: 0, jumps: [] };
  for (let i = 1; i < clock.length; i++) {
    const media = clock[i].media - clock[i - 1].media;
    const wall = (clock[i].t - clock[i - 1].t) / 1000;
    if (media < -0.01 || media > wall * 1.5 + 0.3) {
      sum.jumps.push({ at: round(clock[i - 1].media), by: round(media) });
      continue;
    }
    sum.played += media;
    sum.due += media * fpsAt(clock[i]);
  }
  return sum;
}

/** A rung may be declared slower than the source, never faster. Between levels the slowest one is due. */
function frameRateAt(record, t, options) {
  // After going back the harness made the player drop its picture; the next one is the next key frame.
  if (record.windows.some((w) => w.rewind && t >= w.asked && t < w.from)) return 0;
  const w = record.windows.find((w) => w.reached && t >= w.from && t <= w.to);
  const level = (l) => Math.min(options.fps, l?.fps ?? options.fps);
  return w ? level(record.levels[w.index]) : Math.min(options.fps, ...record.levels.map(level));
}

function judgeLevel(record, window, options, reasons) {
  const level = record.levels[window.index];
  const name = `level ${level.height}p`;
  const clock = record.clock.filter((c) => c.t >= window.from && c.t <= window.to);
  const moved = movement(clock, (c) => frameRateAt(record, c.t, options));
  const frames = clock.length > 1 ? clock.at(-1).frames - clock[0].frames : 0;
  const result = { ...level, reached: window.reached, switch_s: round((window.from - window.asked) / 1000), played_s: round(moved.played), frames };
  if (!window.reached) {
    reasons.push(`${name} never showed: height ${window.height}, player is on level ${window.shown}`);
    return result;
  }
  const wall = (window.to - window.from) / 1000;
  if (wall < options.seconds * 0.9) reasons.push(`${name}: stopped after ${round(wall)} s`);
  if (moved.played < (wall - options.absence) * SHARE) reasons.push(`${name}: played ${round(moved.played)} s of ${round(wall)} s`);
  if (frames < moved.due * SHARE) reasons.push(`${name}: decoded ${frames} of ${Math.round(moved.due)} frames`);
  const samples = record.samples.filter((s) => s.t >= window.from && s.t <= window.to);
  const other = options.changes ? undefined : samples.find((s) => s.height !== level.height);
  if (other) reasons.push(`${name}: a picture of height ${other.height} was shown`);
  return options.counter > 0 ? { ...result, counter: judgeCounter(name, samples, options, reasons) } : result;
}

/** The counter must go up, in step with media time. */
function judgeCounter(name, samples, options, reasons) {
  const readable = samples.filter((s) => s.counter !== null);
  const result = { samples: samples.length, readable: readable.length, first: readable[0]?.counter ?? null, last: readable.at(-1)?.counter ?? null };
  if (readable.length < 5 || readable.length < samples.length * SHARE) {
    reasons.push(`${name}: counter not readable (${readable.length} of ${samples.length} samples)`);
    return result;
  }
  const still = [];
  const breaks = [];
  for (let i = 1; i < readable.length; i++) {
    const [a, b] = [readable[i - 1], readable[i]];
    if (b.counter === a.counter && b.media > a.media) still.push(a);
    const off = frameError(a, b, options);
    if (Math.abs(off) > SLACK_FRAMES) breaks.push(`${a.counter} to ${b.counter} in ${round(b.media - a.media, 3)} s`);
  }
  // Against the first sample too, so that small errors in one direction do not hide a wrong speed.
  const drift = Math.max(...readable.map((s) => Math.abs(frameError(readable[0], s, options))));
  if (still.length > 0) reasons.push(`${name}: picture stands still at counter ${still[0].counter} (${still.length} of ${readable.length - 1} steps)`);
  if (options.changes) return { ...result, drift: null, phase: null };
  if (breaks.length > options.resets) reasons.push(`${name}: counter is not in step with media time: ${breaks.slice(0, 3).join(', ')}`);
  else if (drift > SLACK_FRAMES && breaks.length === 0) reasons.push(`${name}: counter drifts by ${round(drift, 1)} frames from media time`);
  return { ...result, drift: round(drift, 1), phase: round(median(readable.map((s) => phase(s, options))), 1) };
}

/** Rungs show the same frame at the same media time: what a switch must not change. */
function judgeAlignment(levels, options, reasons) {
  const seen = levels.filter((l) => Number.isFinite(l.counter?.phase));
  for (const l of seen.slice(1)) {
    const off = wrap(l.counter.phase - seen[0].counter.phase, options);
    if (Math.abs(off) > SLACK_FRAMES) reasons.push(`level ${l.height}p is ${round(off, 1)} frames off level ${seen[0].height}p`);
  }
}

const phase = (s, { fps, counter }) => (((s.counter - s.media * fps) % 2 ** counter) + 2 ** counter) % 2 ** counter;
const frameError = (a, b, options) => wrap(b.counter - a.counter - (b.media - a.media) * options.fps, options);

/** The counter has `counter` bits: the smallest difference round the circle. */
function wrap(frames, { counter }) {
  const turn = 2 ** counter;
  return frames - turn * Math.round(frames / turn);
}

function median(list) {
  return [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
}
