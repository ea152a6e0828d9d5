// Plays one stream in each player under a real browser, goes through every level, and proves from the pictures
// themselves that it plays. One JSON line per player; exit status 1 when any has a reason to complain, 2 on misuse.
// See README.md for the options and for the counter that the pictures must carry.
import http from 'node:http';
import fs from 'node:fs/promises';
import path from 'node:path';
import { launchBrowser } from './browser.mjs';
import { parseOptions, usage } from './options.mjs';
import { judge } from './verdict.mjs';

const KNOWN = {
  base: '', hls: '', dash: '', live: false, vod: false, players: 'hls.js,dash.js,shaka-dash,shaka-hls',
  seconds: 4, fps: 30, counter: 12, heights: '', patience: 20, resets: 0, absence: 0, changes: false, only: 0,
  'until-end': false, 'end-seconds': 60, 'max-latency': 0, 'allow-http-errors': 0,
};

const here = import.meta.dirname;
const PLAYERS = {
  'hls.js': { lib: 'hls.js/dist/hls.min.js', manifest: 'hls' },
  'dash.js': { lib: 'dashjs/dist/modern/umd/dash.all.min.js', manifest: 'dash' },
  'shaka-dash': { lib: 'shaka-player/dist/shaka-player.compiled.js', manifest: 'dash' },
  'shaka-hls': { lib: 'shaka-player/dist/shaka-player.compiled.js', manifest: 'hls' },
};

const options = readOptions();
process.exitCode = await main();

function readOptions() {
  const o = parseOptions(process.argv.slice(2), KNOWN);
  const names = o.players.split(',').filter(Boolean);
  if (!o.base) usage('--base is missing', KNOWN);
  if (o.live && o.vod) usage('--live or --vod, not both', KNOWN);
  for (const n of names) {
    if (!PLAYERS[n]) usage(`no player ${n}`, KNOWN);
    if (!o[PLAYERS[n].manifest]) usage(`${n} needs --${PLAYERS[n].manifest}`, KNOWN);
  }
  return { ...o, players: names };
}

async function main() {
  const host = await servePages();
  const browser = await launchBrowser();
  let failed = 0;
  try {
    for (const name of options.players) {
      const result = await playIn(browser, host.url, name);
      if (!result.ok) failed++;
      console.log(JSON.stringify(result));
    }
  } finally {
    await browser.close();
    host.close();
  }
  return failed === 0 ? 0 : 1;
}

/** The pages come from another origin than the media, as with a real site: CORS is part of what is tried. */
async function servePages() {
  const page = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><video muted playsinline crossorigin="anonymous" width="640" height="360"></video>';
  const files = { '/page.js': path.join(here, 'page.js') };
  for (const { lib } of Object.values(PLAYERS)) files[`/${lib}`] = path.join(here, 'node_modules', lib);
  const server = http.createServer(async (request, response) => {
    const file = files[request.url];
    response.setHeader('content-type', file ? 'text/javascript' : 'text/html');
    response.end(file ? await fs.readFile(file) : page);
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}

async function playIn(browser, pageUrl, name) {
  const { lib, manifest } = PLAYERS[name];
  const url = new URL(options[manifest], options.base).href;
  const context = await browser.newContext();
  const page = await context.newPage();
  const web = watchHttp(page);
  try {
    await page.goto(pageUrl);
    await page.addScriptTag({ url: `/${lib}` });
    await page.addScriptTag({ url: '/page.js' });
    const expected = await manifestHeights(page, url, manifest);
    const record = await page.evaluate((o) => window.run(o), {
      player: name, url, live: options.live, seconds: options.seconds, patience: options.patience,
      untilEnd: options['until-end'], endSeconds: options['end-seconds'], bits: options.counter, only: options.only,
    });
    return withHttp({ player: name, ...judge(record, expected, options) }, web);
  } catch (e) {
    return withHttp({ player: name, ok: false, reasons: [`harness: ${e.message}`] }, web);
  } finally {
    await context.close();
  }
}

/** Answers of 400 and more, and requests that broke; a player that cancels its own request is no error. */
function watchHttp(page) {
  const seen = { bad: [], requests: 0, hosts: {} };
  page.on('response', (r) => {
    seen.requests++;
    const { host } = new URL(r.url());
    seen.hosts[host] = (seen.hosts[host] ?? 0) + 1;
    if (r.status() >= 400) seen.bad.push(`${r.status()} ${new URL(r.url()).pathname}`);
  });
  page.on('requestfailed', (r) => {
    const why = r.failure()?.errorText ?? 'failed';
    if (why !== 'net::ERR_ABORTED') seen.bad.push(`${why} ${new URL(r.url()).pathname}`);
  });
  page.on('pageerror', (e) => seen.bad.push(`uncaught ${e.message}`));
  return seen;
}

function withHttp(result, web) {
  const reasons = [...result.reasons];
  if (web.bad.length > options['allow-http-errors']) reasons.push(`${web.bad.length} HTTP errors: ${web.bad.slice(0, 3).join(', ')}`);
  return { ...result, ok: reasons.length === 0, reasons, requests: web.requests, hosts: web.hosts, http_errors: web.bad };
}

/** What the manifest promises, read without any player, so that a level that a player drops is noticed. */
async function manifestHeights(page, url, kind) {
  const response = await fetch(url, { signal: AbortSignal.timeout(10_000) });
  if (!response.ok) throw new Error(`${response.status} for ${url}`);
  const text = await response.text();
  const heights = kind === 'hls' ? hlsHeights(text) : await page.evaluate(mpdHeights, { text, live: options.live });
  const wanted = options.heights.split(',').filter(Boolean).map(Number);
  return [...new Set([...heights, ...wanted])];
}

function hlsHeights(text) {
  return [...text.matchAll(/^#EXT-X-STREAM-INF:.*RESOLUTION=\d+x(\d+)/gm)].map((m) => Number(m[1]));
}

/** Runs in the page, for its XML parser. A live player starts in the last Period, a recording in the first. */
function mpdHeights({ text, live }) {
  const periods = [...new DOMParser().parseFromString(text, 'text/xml').querySelectorAll('Period')];
  const sets = (live ? periods.at(-1) : periods[0])?.querySelectorAll('AdaptationSet') ?? [];
  const heightOf = (r, set) => Number(r.getAttribute('height') ?? set.getAttribute('height'));
  return [...sets].flatMap((s) => [...s.querySelectorAll('Representation')].map((r) => heightOf(r, s))).filter((h) => h > 0);
}
