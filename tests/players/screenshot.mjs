// Takes a picture of the status page, with a stream that plays if there is one.
// node screenshot.mjs --base http://127.0.0.1:PORT --out FILE.png [--width 1440] [--height 900] [--dark] [--wait 8] [--stream ID]
import { launchBrowser } from './browser.mjs';
import { parseOptions, usage } from './options.mjs';

const KNOWN = { base: '', out: '', width: 1440, height: 900, dark: false, wait: 8, stream: '', full: false };
const options = parseOptions(process.argv.slice(2), KNOWN);
if (!options.base || !options.out) usage('--base and --out are needed', KNOWN);

const browser = await launchBrowser();
try {
  const page = await browser.newPage({
    viewport: { width: options.width, height: options.height },
    colorScheme: options.dark ? 'dark' : 'light',
  });
  const errors = [];
  page.on('pageerror', (e) => errors.push(e.message));
  page.on('console', (m) => m.type() === 'error' && errors.push(m.text()));
  await page.goto(new URL(options.stream ? `/#/${encodeURIComponent(options.stream)}` : '/', options.base).href);
  await waitForPicture(page);
  await page.screenshot({ path: options.out, fullPage: options.full });
  // A page that breaks its own content policy or throws is no page to show.
  if (errors.length > 0) {
    console.error(errors.join('\n'));
    process.exitCode = 1;
  }
} finally {
  await browser.close();
}

/** Until it has played for some seconds, so that the numbers below it mean something; an empty page is fine too. */
async function waitForPicture(page) {
  const plays = () => document.querySelector('video')?.currentTime > 0 && document.querySelector('video').played.length > 0;
  await page.waitForFunction(plays, null, { timeout: options.wait * 1000 }).catch(() => {});
  await page.waitForTimeout(options.wait * 500);
}
