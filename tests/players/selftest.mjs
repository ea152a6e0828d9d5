// Does play.mjs say no when it should? Makes good content with ffmpeg, breaks copies of it, and expects each fault to be
// named. `node selftest.mjs [CASE…]`; a run of all cases takes some minutes.
import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const here = import.meta.dirname;
const BITS = 12;
const RUNGS = [['1280x720', '2500k'], ['854x480', '1200k'], ['640x360', '700k']];

/** What to do to the content, what to ask, and what each player must complain about (null: nothing). */
const CASES = {
  good: { expect: null },
  live: { live: true, seconds: 100, args: ['--live', '--until-end', '--end-seconds', '90', '--max-latency', '20'], players: 'hls.js,shaka-hls', expect: null, each: true },
  'live-dash': { live: true, seconds: 100, args: ['--live', '--until-end', '--end-seconds', '90', '--max-latency', '20'], players: 'dash.js,shaka-dash', expect: null, each: true },
  corrupt: { damage: (dir) => overwrite(dir, 1), expect: /fatal error|decoded|never showed|counter/ },
  frozen: { filter: 'trim=end_frame=45,tpad=stop=-1:stop_mode=clone', expect: /stands still/ },
  missing: { damage: (dir) => remove(dir, 1), expect: /HTTP errors: 404/ },
  shifted: { shift: 5, expect: /frames off|not in step|drift/ },
  'no-counter': { bare: true, expect: /not readable|not in step|stands still/ },
  'no-level': { args: ['--heights', '1080'], expect: /level 1080p of the manifest is missing/ },
};

const work = await fs.mkdtemp(path.join(os.tmpdir(), 'weir-players-'));
const server = await serve(work);
let failed = 0;
for (const name of process.argv.length > 2 ? process.argv.slice(2) : Object.keys(CASES)) failed += await tryCase(name, CASES[name]);
server.close();
await fs.rm(work, { recursive: true, force: true });
process.exitCode = failed > 0 ? 1 : 0;

async function tryCase(name, how) {
  // A live stream that ends is over for the next player: each gets its own.
  const groups = how.each ? how.players.split(',') : [how.players ?? 'hls.js,dash.js,shaka-dash,shaka-hls'];
  let failed = 0;
  for (const players of groups) {
    const dir = path.join(work, `${name}-${players.replaceAll(',', '+').slice(0, 12)}`);
    const encoder = await makeContent(dir, how);
    await how.damage?.(dir);
    const results = await playAll(path.basename(dir), players, how.args ?? ['--vod']);
    encoder?.kill();
    failed += results.filter((r) => !report(name, r, how.expect)).length;
  }
  return failed;
}

function report(name, result, expect) {
  const as = expect ? !result.ok && result.reasons.some((r) => expect.test(r)) : result.ok;
  const latency = result.latency ? ` latency ${result.latency.min} to ${result.latency.max} s` : '';
  console.log(`${as ? 'as expected' : 'UNEXPECTED '} ${name.padEnd(10)} ${result.player.padEnd(10)} ${result.ok ? `ok, ${result.frames} frames${latency}` : result.reasons.join(' | ').slice(0, 400)}`);
  return as;
}

async function playAll(dir, players, args) {
  const base = `http://127.0.0.1:${server.address().port}`;
  const call = [path.join(here, 'play.mjs'), '--base', base, '--hls', `/${dir}/index.m3u8`, '--dash', `/${dir}/manifest.mpd`, '--seconds', '3', '--players', players, ...args];
  const { stdout } = await run(process.execPath, call).catch((e) => e);
  return stdout.trim().split('\n').map((line) => JSON.parse(line));
}

// ---- content ----------------------------------------------------------------------------------------------------

/** Bit i of the frame number as block i: black ground, white boxes that are there when the bit is set. */
function counterFilter() {
  const box = (i) => `drawbox=x=iw*${i}/32:y=0:w=iw/32:h=ih/18:color=white:t=fill:enable='mod(floor(n/${2 ** i})\\,2)'`;
  return [`drawbox=x=0:y=0:w=iw*${BITS}/32:h=ih/18:color=black:t=fill`, ...Array.from({ length: BITS }, (_, i) => box(i))].join(',');
}

function ffmpegCall(dir, how) {
  const picture = [how.bare ? 'null' : counterFilter(), how.filter].filter(Boolean).join(',');
  const scaled = RUNGS.map(([size], i) => `[s${i}]scale=${size.replace('x', ':')}${i === 1 && how.shift ? `,tpad=start=${how.shift}:start_mode=clone` : ''}[v${i}]`);
  const graph = `[0:v]${picture},split=${RUNGS.length}${RUNGS.map((_, i) => `[s${i}]`).join('')};${scaled.join(';')}`;
  const utc = `http://127.0.0.1:${server.address().port}/time`;
  return [
    '-v', 'error', '-nostdin', ...(how.live ? ['-re'] : []), '-f', 'lavfi', '-i', 'testsrc2=s=1280x720:r=30', '-f', 'lavfi', '-i', 'sine=f=440:r=48000',
    '-filter_complex', graph, ...RUNGS.flatMap((_, i) => ['-map', `[v${i}]`]), '-map', '1:a', '-t', String(how.seconds ?? 24),
    '-c:v', 'libx264', '-preset', 'ultrafast', '-tune', 'zerolatency', '-pix_fmt', 'yuv420p', '-g', '60', '-keyint_min', '60', '-sc_threshold', '0',
    ...RUNGS.flatMap(([, rate], i) => [`-b:v:${i}`, rate]), '-c:a', 'aac', '-b:a', '96k',
    '-f', 'dash', '-seg_duration', '2', '-use_template', '1', '-use_timeline', '1', '-hls_playlist', '1', '-hls_master_name', 'index.m3u8',
    ...(how.live ? ['-window_size', '10', '-extra_window_size', '10', '-utc_timing_url', utc] : []),
    '-adaptation_sets', 'id=0,streams=v id=1,streams=a', path.join(dir, 'manifest.mpd'),
  ];
}

/** Resolves when there is something to play: all of it, or a live stream that is under way. */
async function makeContent(dir, how) {
  await fs.mkdir(dir, { recursive: true });
  if (!how.live) return void (await run('ffmpeg', ffmpegCall(dir, how)));
  const child = spawn('ffmpeg', ffmpegCall(dir, how), { stdio: 'inherit' });
  await new Promise((done) => setTimeout(done, 12_000));
  return child;
}

async function segmentsOf(dir, rung) {
  const names = await fs.readdir(dir);
  return names.filter((n) => n.startsWith(`chunk-stream${rung}-`)).map((n) => path.join(dir, n));
}

/** Boxes stay whole, the samples become noise: only a decoder can notice. */
async function overwrite(dir, rung) {
  for (const file of await segmentsOf(dir, rung)) {
    const bytes = await fs.readFile(file);
    const from = bytes.indexOf('mdat') + 4;
    for (let i = from; i < bytes.length; i++) bytes[i] = (i * 2654435761) >>> 13;
    await fs.writeFile(file, bytes);
  }
}

async function remove(dir, rung) {
  for (const file of (await segmentsOf(dir, rung)).slice(1)) await fs.rm(file);
}

async function serve(root) {
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://x');
    response.setHeader('access-control-allow-origin', '*');
    response.setHeader('cache-control', 'no-store');
    if (pathname === '/time') return response.end(new Date().toISOString());
    const bytes = await fs.readFile(path.join(root, path.normalize(pathname))).catch(() => null);
    response.statusCode = bytes ? 200 : 404;
    response.end(pathname.endsWith('.mpd') && bytes ? withDelay(bytes.toString()) : bytes);
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return server;
}

/** ffmpeg names no delay, and without one dash.js begins so close to the edge that it stalls: a true finding, but not ours. */
function withDelay(mpd) {
  return mpd.replace('type="dynamic"', 'type="dynamic" suggestedPresentationDelay="PT8S"');
}
